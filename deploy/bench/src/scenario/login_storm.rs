//! Many logins at the same time, and their effect on the calls beside them.

use std::time::Duration;

use proto::auth::v1::{GetMeRequest, GetMeResponse};

use super::{Setup, login::Login, moves::Pair, rotation::Rotate};
use crate::{
    baseline::bare_rpc::GET_ME,
    deployment::{Deployment, Game, NO_LIMITS},
    load::{Patient, Slice, Time},
    report::{Goal, Report, Rounds, Row, Spread, Unit},
    rpc::Rpc,
};

/// Options for the number of logins.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Storm {
    /// Number of simultaneous logins, which wait as told if they are refused [1 to 10000].
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) logins: u32,
}

/// Time until the callers that were refused at the beginning have spread out.
const WARM_UP: Duration = Duration::from_secs(4);

/// Number of connections of each kind of call beside the storm: enough to be a load, but not so
/// many that they wait for each other.
const BESIDE: usize = 2;

struct Beside {
    get_me: Vec<Rpc<GetMeRequest, GetMeResponse>>,
    rotate: Vec<Rotate>,
    moves: Vec<Pair>,
}

pub(crate) async fn run(setup: &Setup<'_>, storm: &Storm, report: &mut Report) {
    let deployment = Deployment::start(setup.engine, &NO_LIMITS).await;
    let game = Game::start(setup.engine).await;
    deployment.register("stormy").await;
    let mut logins: Vec<_> = (0..storm.logins)
        .map(|_| Patient(Login::new(&deployment, "stormy")))
        .collect();
    let mut users = deployment.register_users(2 * BESIDE).await;
    let mut beside = Beside {
        get_me: Vec::new(),
        rotate: users.split_off(BESIDE).into_iter().map(Rotate).collect(),
        moves: (0..BESIDE).map(|number| Pair::new(&game, number)).collect(),
    };
    for user in users {
        let token = std::slice::from_ref(&user.access_token);
        beside
            .get_me
            .push(Rpc::new(user.channel.clone(), GET_ME, token, GetMeRequest {}));
    }
    let mut rounds = [(); 3].map(|()| (Rounds::default(), Rounds::default()));
    let (mut p99, mut goodput) = ([(); 3].map(|()| Vec::new()), [(); 3].map(|()| Vec::new()));
    let mut storms = Rounds::default();
    let time = Time {
        warm_up: WARM_UP,
        ..setup.time
    };
    for _ in 0..setup.rounds {
        let calm = beside.drive(setup.time, &deployment, &game).await;
        let auth = deployment.auth_processors();
        let (stormy, storm) = tokio::join!(beside.drive(time, &deployment, &game), time.drive(&mut logins, &auth));
        storms.push(storm);
        for (kind, (calm, stormy)) in calm.into_iter().zip(stormy).enumerate() {
            p99[kind].push(stormy.percentile(0.99) / calm.percentile(0.99));
            goodput[kind].push(stormy.goodput() / calm.goodput());
            rounds[kind].0.push(stormy);
            rounds[kind].1.push(calm);
        }
    }
    let backend = Some(setup.engine.backend());
    let kinds = ["GetMe", "RotateTokens", "MakeMove"]
        .into_iter()
        .zip(rounds)
        .zip(p99.into_iter().zip(goodput));
    for ((name, (stormy, calm)), (p99, goodput)) in kinds {
        let what = format!("p99 beside {} logins at once, against the same without", storm.logins);
        let figure = (Spread::of(p99), Unit::Times);
        let row = Row::new(
            format!("login storm, p99 of {name}"),
            backend,
            what,
            figure,
            Goal::AtMost(3.0),
        );
        let row = row.with("in the storm", &stormy).with("without", &calm);
        report.add(row.with("the logins", &storms));
        let figure = (Spread::of(goodput), Unit::Times);
        let what = format!(
            "calls/s beside {} logins at once, against the same without",
            storm.logins
        );
        report.add(Row::new(
            format!("login storm, goodput of {name}"),
            backend,
            what,
            figure,
            Goal::AtLeast(0.5),
        ));
    }
}

impl Beside {
    async fn drive(&mut self, time: Time, deployment: &Deployment, game: &Game) -> [Slice; 3] {
        let (auth, game) = (deployment.auth_processors(), game.processors());
        let (get_me, rotate, moves) = tokio::join!(
            time.drive(&mut self.get_me, &auth),
            time.drive(&mut self.rotate, &auth),
            time.drive(&mut self.moves, &game)
        );
        [get_me, rotate, moves]
    }
}
