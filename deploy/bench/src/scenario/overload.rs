//! Ten times as many callers as the service admits at a time.

use std::time::Duration;

use proto::game::v1::{GetLeaderboardRequest, GetLeaderboardResponse};
use tonic::transport::Channel;

use super::{Setup, moves::Pair};
use crate::{
    baseline::bare_rpc::GET_LEADERBOARD,
    deployment::Game,
    load::{Caller, Patient, Time},
    report::{Goal, Report, Rounds, Row, Spread, Unit},
    rpc::Rpc,
};

const PLAYERS: u32 = 10_000;

/// Time until the callers that were refused at the beginning have spread out.
const WARM_UP: Duration = Duration::from_secs(4);

/// Measures overload with a limit of concurrent calls that is just enough for the peak. With a
/// higher limit, the callers would take more of the machine than the service does.
pub(crate) async fn run(setup: &Setup<'_>, report: &mut Report) {
    let places = setup.connections.to_string();
    let game = Game::start_ranked(setup.engine, PLAYERS, &["--max-concurrent-requests", &places]).await;
    let board = |channel, number| {
        let request = GetLeaderboardRequest { limit: 10 };
        let token = game.player(number);
        Rpc::<_, GetLeaderboardResponse>::new(channel, GET_LEADERBOARD, &[token], request)
    };
    compare(setup, &game, "GetLeaderboard", board, report).await;
    let pair = |channel, number| Pair::on(channel, &game, number);
    compare(setup, &game, "MakeMove, whole games", pair, report).await;
}

async fn compare<C: Caller>(
    setup: &Setup<'_>,
    game: &Game,
    name: &str,
    caller: impl Fn(Channel, usize) -> C,
    report: &mut Report,
) {
    let few = (0..setup.connections).map(|number| caller(game.channel(), number));
    let mut few: Vec<C> = few.collect();
    let channels: Vec<Channel> = (0..10 * setup.connections).map(|_| game.channel()).collect();
    let many = channels
        .into_iter()
        .enumerate()
        .map(|(number, channel)| caller(channel, number));
    let mut many: Vec<Patient<C>> = many.map(Patient).collect();
    let time = Time {
        warm_up: WARM_UP,
        ..setup.time
    };
    let (mut peak, mut overload) = (Rounds::default(), Rounds::default());
    let (mut ratios, mut refusals) = (Vec::new(), Vec::new());
    peak.push(setup.time.drive(&mut few, &game.processors()).await);
    for _ in 0..setup.rounds {
        // Compared with the peaks before and after, since the machine may become slower or faster
        // in the seconds between.
        let before = peak.last().goodput();
        overload.push(time.drive(&mut many, &game.processors()).await);
        peak.push(setup.time.drive(&mut few, &game.processors()).await);
        ratios.push(2.0 * overload.last().goodput() / (before + peak.last().goodput()));
        refusals.push(overload.last().refused_within(0.5));
    }
    let codes = overload.codes();
    let others = codes
        .iter()
        .any(|code| !["Ok", "ResourceExhausted"].contains(&code.as_str()));
    assert!(!others, "whoever is not served is told RESOURCE_EXHAUSTED: {codes:?}");
    let what = format!(
        "calls/s with {} callers for {} places, who wait as they are told, against its peak before and after; refused \
        within {:.1} ms (median)",
        10 * setup.connections,
        setup.connections,
        Spread::of(refusals).median
    );
    let figure = (Spread::of(ratios), Unit::Times);
    let scenario = format!("10x overload of {name}");
    let row = Row::new(scenario, Some(setup.engine.backend()), what, figure, Goal::AtLeast(0.9));
    report.add(row.with("overloaded", &overload).with("at its peak", &peak));
}
