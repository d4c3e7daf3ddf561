//! Sweeps and purges, which jobs run on a timer, and whether tables stay as small as they were.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use access::token::{AcceptedAudiences, DEFAULT_AUDIENCE, DEFAULT_ISSUER, KeySource};
use auth_service::{AuthService, config::AuthSettings};
use base::{
    clock::{Clock, ClockHand},
    running::Running,
};
use clap::Parser;
use db::{DatabaseSettings, Db};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Bool},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use game_service::{GameService, VerificationKeys, config::GameSettings};
use server::ServerSettings;
use testing::rpc::listener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Measured,
    buffers::{Meter, Statement, Touched, f64_of},
    seed::{NEW_EVENTS, NEW_SESSIONS, Seed, run},
};
use crate::deployment::CHEAP_HASHING;

/// Longest time to wait for the jobs.
const PATIENCE: Duration = Duration::from_mins(30);
/// Longest time to wait for PostgreSQL to vacuum a table by itself.
const CLEANING: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_millis(200);

/// Size of a table after a purge and as many new rows.
pub(super) struct Growth {
    pub(super) table: &'static str,
    pub(super) rows: i64,
    pub(super) mib_before: f64,
    /// Size with all indexes, as a multiple of before.
    pub(super) ratio: f64,
    /// Whether PostgreSQL has vacuumed the table by itself.
    pub(super) cleaned: String,
}

#[derive(Parser)]
struct Auth {
    #[command(flatten)]
    settings: AuthSettings,
}

#[derive(Parser)]
struct Games {
    #[command(flatten)]
    settings: GameSettings,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    answer: bool,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// A job, identified by its statements.
struct Job {
    name: &'static str,
    unit: &'static str,
    /// Beginnings of the statements. The first one reads or changes the rows that the job handles.
    statements: &'static [&'static str],
}

const AUTH_JOBS: [Job; 5] = [
    Job {
        name: "sweep of sessions",
        unit: "a session",
        statements: &[
            "UPDATE sessions SET sweep_time = expire_time",
            r#"SELECT "sessions"."id", "sessions"."expire_time", "sessions"."sweep_time""#,
        ],
    },
    Job {
        name: "purge of sessions",
        unit: "a session",
        statements: &[
            r#"DELETE FROM "sessions""#,
            r#"SELECT "sessions"."id", "sessions"."end_time" FROM "sessions" WHERE (("sessions"."end_time" >="#,
            r#"SELECT "sessions"."id", "sessions"."sweep_time" FROM "sessions""#,
        ],
    },
    Job {
        name: "purge of the audit log",
        unit: "an entry",
        statements: &["DELETE FROM audit_events", "SELECT event_time, id FROM audit_events"],
    },
    Job {
        name: "purge of attempts",
        unit: "a counter",
        statements: &[
            r#"DELETE FROM "login_throttle""#,
            r#"SELECT "login_throttle"."key", "login_throttle"."expire_time" FROM"#,
        ],
    },
    Job {
        name: "count of sessions",
        unit: "a count",
        statements: &[
            "SELECT count(*) FROM (SELECT $2 FROM sessions",
            "SELECT reltuples::bigint FROM pg_class",
        ],
    },
];

const GAME_JOBS: [Job; 1] = [Job {
    name: "sweep of games",
    unit: "a game",
    statements: &[
        "UPDATE games SET sweep_time = expire_time",
        r#"SELECT "games"."sweep_time", "games"."id", "games"."expire_time""#,
    ],
}];

/// Runs the jobs of auth-service, and measures whether its tables stay as they are.
pub(super) async fn auth(url: &str, secret: &str, seed: Seed, measured: &mut Measured) {
    let mut meter = Meter::open(url).await;
    let before = [
        size(meter.conn(), "sessions").await,
        size(meter.conn(), "audit_events").await,
    ];
    let arguments = ["auth", "--audit-retention-days", "30"];
    let settings = Auth::parse_from(arguments.iter().chain(&CHEAP_HASHING)).settings;
    let (clock, hand) = settled_clock();
    let running = Running::new(CancellationToken::new(), Duration::from_secs(5));
    let service = AuthService {
        settings: &settings,
        server: &ServerSettings::default(),
        db: connect(url).await,
        secrets: secret.parse().expect("a secret"),
        service_accounts: Vec::new(),
        clock,
        grpc: listener().await,
        http: listener().await,
    };
    meter.reset().await;
    service.spawn(true, &running).await.expect("started");
    let done = "SELECT NOT EXISTS (SELECT FROM sessions WHERE end_time < now() - interval '30 days 10 minutes') \
                AND NOT EXISTS (SELECT FROM sessions WHERE sweep_time < now() - interval '5 minutes' \
                AND end_time IS NULL) \
                AND NOT EXISTS (SELECT FROM audit_events WHERE event_time < now() - interval '30 days 10 minutes') \
                AND NOT EXISTS (SELECT FROM login_throttle WHERE expire_time < now() - interval '5 minutes' \
                AND failures > 0) AS answer";
    wait_for(meter.conn(), done, &hand).await;
    // The metric of sessions is taken every half minute.
    sleep(Duration::from_secs(1)).await;
    let statements = meter.statements().await;
    note(&statements, &AUTH_JOBS, measured);
    running.stop().await.expect("stopped");
    for ((table, new), (before, job)) in [("sessions", NEW_SESSIONS), ("audit_events", NEW_EVENTS)]
        .into_iter()
        .zip(before.into_iter().zip(&AUTH_JOBS[1..]))
    {
        let rows = statements.iter().filter(|it| it.query.starts_with(job.statements[0]));
        let rows = rows.map(|it| it.rows).sum();
        let cleaned = cleaned(meter.conn(), table).await;
        run(meter.conn(), &seed.sql(new, 1, seed.users, seed.users)).await;
        let after = size(meter.conn(), table).await;
        measured.growth.push(Growth {
            table,
            rows,
            mib_before: before / 1024.0 / 1024.0,
            ratio: after / before,
            cleaned,
        });
    }
}

/// Runs the jobs of game-service.
pub(super) async fn game(url: &str, key_file: PathBuf, measured: &mut Measured) {
    let mut meter = Meter::open(url).await;
    let (clock, hand) = settled_clock();
    let running = Running::new(CancellationToken::new(), Duration::from_secs(5));
    let settings = Games::parse_from(["game"]).settings;
    let service = GameService {
        settings: &settings,
        server: &ServerSettings::default(),
        token_issuer: DEFAULT_ISSUER,
        token_audiences: AcceptedAudiences::deployment(DEFAULT_AUDIENCE).or_service("game-service"),
        keys: VerificationKeys::From(KeySource::File(key_file), Duration::from_mins(5)),
        db: connect(url).await,
        clock,
        grpc: listener().await,
        http: listener().await,
    };
    meter.reset().await;
    service.spawn(true, &running).await.expect("started");
    let done = "SELECT NOT EXISTS (SELECT FROM games WHERE sweep_time < now() - interval '5 minutes' \
                AND finish_time IS NULL) AS answer";
    wait_for(meter.conn(), done, &hand).await;
    note(&meter.statements().await, &GAME_JOBS, measured);
    running.stop().await.expect("stopped");
}

/// Creates a clock that shows the present time and counts as settled, so that jobs need not wait
/// for 15 minutes.
fn settled_clock() -> (Clock, ClockHand) {
    let (clock, hand) = Clock::manual(Clock::system().now());
    hand.settle();
    (clock, hand)
}

async fn connect(url: &str) -> Db {
    let settings = DatabaseSettings::new(url.parse().expect("a URL"));
    Db::connect(&settings).await.expect("a pool")
}

fn note(statements: &[Statement], jobs: &[Job], measured: &mut Measured) {
    for job in jobs {
        let is_own = |beginning: &str, statement: &Statement| statement.query.starts_with(beginning);
        let rows = statements
            .iter()
            .filter(|it| is_own(job.statements[0], it))
            .map(|it| it.rows);
        let rows = u64::try_from(rows.sum::<i64>()).unwrap_or(0);
        let own = statements
            .iter()
            .filter(|it| job.statements.iter().any(|beginning| is_own(beginning, it)));
        let touched = Touched::of(own.cloned().collect(), f64_of(rows), job.unit);
        measured.touched.push((job.name, touched));
    }
}

/// Waits until PostgreSQL has removed a table's dead rows, or vacuums it as an operator would.
async fn cleaned(conn: &mut AsyncPgConnection, table: &str) -> String {
    let start = Instant::now();
    let is_clean = format!(
        "SELECT n_dead_tup < 1000 + n_live_tup / 100 AND coalesce(last_autovacuum > now() - interval '1 hour', false) \
         AS answer FROM pg_stat_user_tables WHERE relname = '{table}'"
    );
    while start.elapsed() < CLEANING {
        if ask(conn, &is_clean).await {
            return format!("autovacuum had cleaned it {:.0} s later", start.elapsed().as_secs_f64());
        }
        sleep(POLL).await;
    }
    run(conn, &format!("VACUUM {table}")).await;
    "autovacuum did not clean it".to_owned()
}

/// Waits until the condition is true. Advances the clock meanwhile, so that a failed job is
/// retried.
async fn wait_for(conn: &mut AsyncPgConnection, question: &str, hand: &ClockHand) {
    let start = Instant::now();
    while !ask(conn, question).await {
        assert!(start.elapsed() < PATIENCE, "in vain: {question}");
        sleep(POLL).await;
        hand.advance(POLL);
    }
}

async fn ask(conn: &mut AsyncPgConnection, question: &str) -> bool {
    let answer: Answer = diesel::sql_query(question).get_result(conn).await.expect(question);
    answer.answer
}

/// Returns the size of a table with all of its indexes, in bytes.
async fn size(conn: &mut AsyncPgConnection, table: &str) -> f64 {
    let size = format!("SELECT pg_total_relation_size('{table}') AS number");
    let size: Number = diesel::sql_query(size).get_result(conn).await.expect("its size");
    f64_of(u64::try_from(size.number).unwrap_or(0))
}
