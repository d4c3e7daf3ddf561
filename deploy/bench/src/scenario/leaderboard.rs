//! The leaderboard with many and with very many players.

use db::Backend;
use prost::Message;
use proto::game::v1::{
    GetLeaderboardRequest, GetLeaderboardResponse, GetPlayerRankRequest, GetPlayerRankResponse,
    ListAroundPlayerRequest, ListAroundPlayerResponse,
};

use super::{
    Setup,
    nakama::{self, Nakama},
};
use crate::{
    baseline::bare_rpc::{BareServer, GET_LEADERBOARD, GET_PLAYER_RANK, LIST_AROUND_PLAYER},
    deployment::Game,
    process::Processes,
    report::{Goal, Report, Rounds, Row, Spread, Unit},
    rpc::Rpc,
};

/// Number of players that each connection calls for, in turn.
const PLAYERS: usize = 64;

/// Number of players from which on their memory stands out from that of everything else.
const MANY: u32 = 1_000_000;
/// Goal for the memory of a player, in bytes.
const PLAYER_BYTES: f64 = 64.0;
/// Goal for the time that a start takes longer for each player, in milliseconds.
const PLAYER_MILLIS: f64 = 0.0015;

/// Options for the size of the leaderboard.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Size {
    /// Numbers of players to measure with, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000", value_name = "N,...")]
    pub(crate) players: Vec<u32>,
}

/// Cost of each RPC with the first number of players, which the others are compared with.
struct Before {
    players: u32,
    micros: [f64; 3],
}

pub(crate) async fn run(setup: &Setup<'_>, size: &Size, report: &mut Report) {
    let mut before: Option<Before> = None;
    for players in &size.players {
        let game = Game::start_ranked(setup.engine, *players, &[]).await;
        println!("       seeded {players} players in {:.0} s", game.seeding.as_secs_f64());
        load(setup, &game, *players, report);
        let around = ListAroundPlayerRequest {
            limit: 10,
            ..ListAroundPlayerRequest::default()
        };
        let top =
            Board::<_, GetLeaderboardResponse>::new("top 10", GET_LEADERBOARD, GetLeaderboardRequest { limit: 10 });
        let rank = Board::<_, GetPlayerRankResponse>::new("my rank", GET_PLAYER_RANK, GetPlayerRankRequest::default());
        let around = Board::<_, ListAroundPlayerResponse>::new("10 around me", LIST_AROUND_PLAYER, around);
        let micros = [
            top.measure(setup, &game, *players, nakama::TOP, report).await,
            rank.measure(setup, &game, *players, nakama::RANK, report).await,
            around.measure(setup, &game, *players, nakama::AROUND, report).await,
        ];
        if let Some(before) = &before {
            for ((name, micros), then) in ["top 10", "my rank", "10 around me"]
                .iter()
                .zip(micros)
                .zip(before.micros)
            {
                let scenario = format!("{name} of {players} against {}", before.players);
                let what = "CPU of a call, service + database, with more players";
                let figure = (Spread::once(micros / then), Unit::Times);
                report.add(Row::new(
                    scenario,
                    Some(setup.engine.backend()),
                    what,
                    figure,
                    Goal::AtMost(1.5),
                ));
            }
        } else {
            before = Some(Before {
                players: *players,
                micros,
            });
        }
        let memory = game.processors().service;
        println!(
            "       game-service has {:.0} MiB, {:.0} at most",
            Processes::memory(&memory),
            memory.peak_memory()
        );
    }
}

/// Reports what a start with so many players takes beyond one without players.
fn load(setup: &Setup<'_>, game: &Game, players: u32, report: &mut Report) {
    let [ranked, empty] = game.starts;
    let backend = Some(setup.engine.backend());
    let time = (ranked.time.as_secs_f64() - empty.time.as_secs_f64()) * 1e3;
    report.add(Row::new(
        format!("load of {players} players"),
        backend,
        "time from the start to SERVING, beyond that without players",
        (Spread::once(time), Unit::Millis),
        Goal::AtMost(PLAYER_MILLIS * f64::from(players)),
    ));
    if players >= MANY {
        let bytes = (ranked.memory - empty.memory) * 1024.0 * 1024.0 / f64::from(players);
        report.add(Row::new(
            format!("a player of {players}"),
            backend,
            "memory once SERVING, beyond that without players",
            (Spread::once(bytes), Unit::Bytes),
            Goal::AtMost(PLAYER_BYTES),
        ));
    }
}

struct Board<Req, Res> {
    name: &'static str,
    path: &'static str,
    request: Req,
    response: std::marker::PhantomData<Res>,
}

impl<Req, Res> Board<Req, Res>
where
    Req: Message + Clone + Default + 'static,
    Res: Message + Default + 'static,
{
    const fn new(name: &'static str, path: &'static str, request: Req) -> Self {
        Self {
            name,
            path,
            request,
            response: std::marker::PhantomData,
        }
    }

    /// Measures the RPC against the bare server. Returns the processor time of a call in
    /// microseconds.
    async fn measure(self, setup: &Setup<'_>, game: &Game, players: u32, nakama: Nakama, report: &mut Report) -> f64 {
        let mut ours: Vec<Rpc<Req, Res>> = Vec::new();
        for number in 0..setup.connections {
            let tokens = tokens(game, number);
            ours.push(Rpc::new(game.channel(), self.path, &tokens, self.request.clone()));
        }
        let answer = ours[0].answer().await.expect("an answer");
        let bare = BareServer::start(self.path, &answer).await;
        let mut theirs: Vec<Rpc<Req, Res>> = Vec::new();
        for number in 0..setup.connections {
            let tokens = tokens(game, number);
            theirs.push(Rpc::new(bare.channel(), self.path, &tokens, self.request.clone()));
        }
        let (mut us, mut them, mut ratios) = (Rounds::default(), Rounds::default(), Vec::new());
        for _ in 0..setup.rounds {
            us.push(setup.time.drive(&mut ours, &game.processors()).await);
            them.push(setup.time.drive(&mut theirs, &bare.processors()).await);
            ratios.push(us.last().cpu_per_call().server() / them.last().cpu_per_call().service);
        }
        let what = "CPU of a call, service + database, against the bare RPC";
        let backend = setup.engine.backend();
        let scenario = format!("{} of {players}", self.name);
        let row = Row::new(
            scenario,
            Some(backend),
            what,
            (Spread::of(ratios), Unit::Times),
            Goal::AtMost(3.0),
        );
        report.add(row.with("ours", &us).with("bare tonic", &them));
        // The figures of Nakama are for this number of players.
        if backend == Backend::Postgres && players == 100_000 {
            report.add(nakama.beside(self.name, Some(Backend::Postgres), &us));
        }
        Spread::of(us.each(|slice| slice.cpu_per_call().server())).median
    }
}

/// Returns the tokens of the players that one connection calls for.
fn tokens(game: &Game, connection: usize) -> Vec<String> {
    (0..PLAYERS)
        .map(|number| game.player(connection * PLAYERS + number))
        .collect()
}
