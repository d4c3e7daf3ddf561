//! Cost of many revocations in many verifiers.

use std::{io::Write as _, time::Duration};

use access::{
    feed::{ClientSecret, Follower, ServiceCredentials},
    token::KeySet,
    view::AccessView,
};
use base::{
    clock::{Clock, Timestamp},
    ids::SessionId,
    running::Running,
    sql_types,
};
use db::prepared;
use diesel::sql_types::{BigInt, Binary, Text};
use diesel_async::RunQueryDsl as _;
use prost::Message as _;
use proto::{
    auth::v1::{AccessEvent, SessionRevoked, access_event::Event},
    game::v1::FILE_DESCRIPTOR_SET,
};
use testing::{block_on, program::Program};

use super::Setup;
use crate::{
    baseline::bare_sql::{BareConn, on},
    deployment::{CHEAP_HASHING, Deployment, NO_LIMITS, executable},
    process::Processes,
    report::{Goal, Report, Row, Spread, Unit},
};

/// Options for the size of the feed and the number of its followers.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Amount {
    /// Number of revocations in force [1000 to 1000000].
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    pub(crate) revocations: u32,
    /// Number of verifiers that know them, in one process [1 to 1000].
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) verifiers: u32,
}

/// Time for which a revocation stays in force.
const LIFE: Duration = Duration::from_hours(1);

pub(crate) async fn run(setup: &Setup<'_>, amount: &Amount, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &[&CHEAP_HASHING[..], &NO_LIMITS].concat()).await;
    let service = deployment.auth_processors().service;
    // Measured with only the events from the start, and then with all revocations.
    let empty = follow(&deployment, amount.verifiers).await;
    let memory_before = service.memory();
    let head = revoke(&deployment, amount.revocations).await;
    let cpu_before = service.micros();
    let full = follow(&deployment, amount.verifiers).await;
    let of_service = (service.micros() - cpu_before) / 1e3 / f64::from(amount.verifiers);
    assert_eq!(full.sequence, head, "they know of everything");
    let each = f64::from(amount.verifiers) * f64::from(amount.revocations);
    let bytes = (full.memory - empty.memory) * 1024.0 * 1024.0 / each;
    let what = format!(
        "memory of each of {} verifiers for each of {} live revocations; to take them in takes a verifier {:.0} ms of \
         CPU, and auth-service {of_service:.0} ms, which has {:.0} MiB then and had {memory_before:.0}",
        amount.verifiers,
        amount.revocations,
        (full.cpu - empty.cpu) / 1e3 / f64::from(amount.verifiers),
        service.memory(),
    );
    let figure = (Spread::once(bytes), Unit::Bytes);
    report.add(Row::new(
        "access feed",
        Some(setup.engine.backend()),
        what,
        figure,
        Goal::AtMost(100.0),
    ));
}

/// Resources that verifiers have used once they are up to date.
struct Followed {
    memory: f64,
    cpu: f64,
    /// Sequence number of the feed that they have reached.
    sequence: i64,
}

async fn follow(deployment: &Deployment, verifiers: u32) -> Followed {
    let address = format!("http://{}", deployment.auth_address);
    let program = Program::start_in(
        &executable("bench"),
        ["verifiers", &address, &verifiers.to_string()],
        &[("CLIENT_SECRET", &deployment.client_secret)],
    );
    let printed = program.printed("loaded ").await;
    let sequence = printed.trim().trim_start_matches("loaded ").parse().expect("a number");
    let processes = Processes::One(program.id());
    Followed {
        memory: processes.memory(),
        cpu: processes.micros(),
        sequence,
    }
}

/// Runs this many verifiers in this process, until it is killed.
pub(crate) fn verifiers(auth: &str, count: u32, client_secret: &str) {
    block_on(async {
        let running = Running::new(tokio_util::sync::CancellationToken::new(), Duration::ZERO);
        let policies = access::policy::Policies::from_descriptor_set(FILE_DESCRIPTOR_SET).expect("policies");
        let mut views = Vec::new();
        for _ in 0..count {
            let channel = access::feed::auth_channel(&auth.parse().expect("an address")).expect("a channel");
            let credentials = ServiceCredentials {
                client_id: "game-service".to_owned(),
                client_secret: ClientSecret::Given(client_secret.to_owned().into()),
            };
            let view = AccessView::following(KeySet::empty(), Clock::system());
            Follower::new(channel, credentials).spawn(view.clone(), &policies, &running);
            view.wait_until_loaded().await;
            views.push(view);
        }
        let last = views
            .last()
            .and_then(AccessView::position)
            .map_or(0, |position| position.sequence);
        println!("loaded {last}");
        let _ = std::io::stdout().flush();
        std::future::pending::<()>().await;
    });
}

/// Inserts revocations directly into the database, which is quicker than to begin sessions and end
/// them. Returns the new head of the feed.
async fn revoke(deployment: &Deployment, count: u32) -> i64 {
    let mut conn = BareConn::open(&deployment.auth_database.url).await;
    let now = Clock::system().now();
    let until: Timestamp = now.plus(LIFE);
    conn.begin().await;
    let head = prepared::<BigInt>("UPDATE feed_head SET sequence = sequence + ")
        .bind::<BigInt, _>(i64::from(count))
        .text(" RETURNING sequence");
    let head: i64 = on!(&mut conn, |c| head.get_result(c).await).expect("the head");
    for sequence in head - i64::from(count) + 1..=head {
        let session = SessionId::generate().to_string();
        let event = AccessEvent {
            sequence: 0,
            expire_time: Some(until.into()),
            event: Some(Event::SessionRevoked(SessionRevoked {
                session_id: session.clone(),
            })),
        };
        let insert = prepared::<()>("INSERT INTO access_feed (sequence, kind, subject, event, expire_time) VALUES (")
            .bind::<BigInt, _>(sequence)
            .text(", 'session_revoked', ")
            .bind::<Text, _>(session)
            .text(", ")
            .bind::<Binary, _>(event.encode_to_vec())
            .text(", ")
            .bind::<sql_types::Timestamp, _>(until)
            .text(")");
        on!(&mut conn, |c| insert.execute(c).await).expect("an event");
    }
    conn.commit().await;
    head
}
