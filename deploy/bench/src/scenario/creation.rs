//! Creation of games, and short games from their creation to a resignation.

use db::Backend;
use futures_util::future::join_all;
use proto::game::v1::{
    CreateGameRequest, JoinGameRequest, MakeMoveRequest, Mark, Opponent, ResignGameRequest,
    game_service_client::GameServiceClient,
};
use testing::rpc::with_token;
use tonic::{Status, transport::Channel};

use super::{Setup, nakama};
use crate::{
    deployment::Game,
    load::{Caller, Slice},
    report::{Goal, Report, Rounds, Row, Spread, Unit},
};

/// Players that take turns on one connection, so that none of them has more unfinished games than
/// allowed.
const PLAYERS: usize = 64;

/// Caller that creates games against the computer, which stay unfinished.
struct Creator {
    client: GameServiceClient<Channel>,
    tokens: Vec<String>,
    next: usize,
}

/// Two players who play short games: one creates a game, the other joins and gives up after a move
/// of each.
struct ShortGames {
    client: GameServiceClient<Channel>,
    tokens: [String; 2],
    game_id: String,
    step: usize,
}

impl Creator {
    fn new(game: &Game, number: usize) -> Self {
        Self {
            client: GameServiceClient::new(game.channel()),
            tokens: (0..PLAYERS)
                .map(|player| game.newcomer(&format!("creator-{number}-{player}")))
                .collect(),
            next: 0,
        }
    }
}

impl Caller for Creator {
    async fn call(&mut self) -> Result<(), Status> {
        let request = CreateGameRequest {
            opponent: Opponent::Computer.into(),
            mark: Mark::X.into(),
            ..CreateGameRequest::default()
        };
        self.next = (self.next + 1) % PLAYERS;
        let request = with_token(request, &self.tokens[self.next]);
        self.client.create_game(request).await.map(drop)
    }
}

impl ShortGames {
    fn new(game: &Game, number: usize) -> Self {
        Self {
            client: GameServiceClient::new(game.channel()),
            tokens: ["short-x", "short-o"].map(|player| game.newcomer(&format!("{player}-{number}"))),
            game_id: String::new(),
            step: 0,
        }
    }
}

impl Caller for ShortGames {
    async fn call(&mut self) -> Result<(), Status> {
        let [x, o] = &self.tokens;
        let game_id = self.game_id.clone();
        match self.step {
            0 => {
                let request = CreateGameRequest {
                    opponent: Opponent::Player.into(),
                    mark: Mark::X.into(),
                    ..CreateGameRequest::default()
                };
                let answer = self.client.create_game(with_token(request, x)).await?;
                self.game_id = answer.into_inner().game.unwrap_or_default().game_id;
            }
            1 => {
                let request = JoinGameRequest { game_id };
                self.client.join_game(with_token(request, o)).await?;
            }
            step @ (2 | 3) => {
                let request = MakeMoveRequest {
                    game_id,
                    cell: Some(i32::from(step == 3)),
                    expected_version: 2 + i64::from(step == 3),
                };
                let player = if step == 2 { x } else { o };
                self.client.make_move(with_token(request, player)).await?;
            }
            _ => {
                let request = ResignGameRequest { game_id };
                self.client.resign_game(with_token(request, o)).await?;
            }
        }
        self.step = (self.step + 1) % 5;
        Ok(())
    }
}

/// Measures CreateGame, and short games.
pub(crate) async fn run(setup: &Setup<'_>, report: &mut Report) {
    let backend = Some(setup.engine.backend());
    let game = Game::start(setup.engine).await;
    let mut creators: Vec<Creator> = (0..setup.connections)
        .map(|number| Creator::new(&game, number))
        .collect();
    let mut pairs: Vec<ShortGames> = (0..setup.connections)
        .map(|number| ShortGames::new(&game, number))
        .collect();
    // Each player's first game, so that the measurement does not include their registration.
    let first = creators.iter_mut().map(async |creator| {
        for _ in 0..PLAYERS {
            creator.call().await.expect("created");
        }
    });
    join_all(first).await;
    let (mut created, mut played) = (Rounds::default(), Rounds::default());
    for _ in 0..setup.rounds {
        created.push(setup.time.drive(&mut creators, &game.processors()).await);
        played.push(setup.time.drive(&mut pairs, &game.processors()).await);
    }
    if setup.engine.backend() == Backend::Postgres {
        let row = nakama::WRITE.beside("CreateGame", backend, &created);
        report.add(row.with("ours", &created));
        let speed = Spread::of(created.each(Slice::goodput));
        let figure = (speed, Unit::PerSecond);
        report.add(Row::new(
            "CreateGame, calls",
            backend,
            "calls/s, each durable",
            figure,
            Goal::AtLeast(6_000.0),
        ));
    } else {
        let cpu = Spread::of(created.each(|slice| slice.cpu_per_call().server()));
        let what = "CPU of a call";
        let row = Row::new("CreateGame", backend, what, (cpu, Unit::Micros), Goal::AtMost(250.0));
        report.add(row.with("ours", &created));
    }
    let cpu = Spread::of(played.each(|slice| slice.cpu_per_call().server()));
    let what = "CPU of a call, service + database: create, join, two moves, resign";
    let row = Row::new("short games", backend, what, (cpu, Unit::Micros), Goal::AtMost(300.0));
    report.add(row.with("ours", &played));
}
