//! Whole games: created, joined, and played to the end.

use std::{sync::Arc, time::Duration};

use base::{
    clock::{Clock, Timestamp},
    ids::UserId,
    sql_types,
};
use db::{Backend, prepared};
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl as _;
use proto::game::v1::{
    CreateGameRequest, JoinGameRequest, MakeMoveRequest, Mark, Opponent, game_service_client::GameServiceClient,
};
use testing::rpc::with_token;
use tokio::sync::Mutex;
use tonic::{Status, transport::Channel};

use super::{Setup, nakama};
use crate::{
    baseline::bare_sql::{BareConn, on},
    deployment::Game,
    load::{Caller, Processors},
    report::{Goal, Report, Rounds, Row, Spread, Unit},
};

/// Cells of the moves, in order. X completes a diagonal with the last one.
const CELLS: [i32; 7] = [0, 1, 2, 3, 4, 5, 6];

/// Time limit of a turn, as in the default settings.
const A_DAY: Duration = Duration::from_hours(24);

/// A running game, and the token of one of its players.
pub(crate) struct Played {
    pub(crate) game_id: String,
    pub(crate) token: String,
}

/// Two players who play each other, one call after the other.
pub(crate) struct Pair {
    client: GameServiceClient<Channel>,
    tokens: [String; 2],
    game_id: String,
    step: usize,
}

impl Pair {
    pub(crate) fn new(game: &Game, number: usize) -> Self {
        Self::on(game.channel(), game, number)
    }

    /// Creates a pair on an existing connection.
    pub(crate) fn on(channel: Channel, game: &Game, number: usize) -> Self {
        Self {
            client: GameServiceClient::new(channel),
            tokens: ["x", "o"].map(|mark| game.newcomer(&format!("{mark}-{number}"))),
            game_id: String::new(),
            step: 0,
        }
    }

    async fn next(&mut self) -> Result<(), Status> {
        match self.step {
            0 => {
                let request = CreateGameRequest {
                    opponent: Opponent::Player.into(),
                    mark: Mark::X.into(),
                    ..CreateGameRequest::default()
                };
                let answer = self.client.create_game(with_token(request, &self.tokens[0])).await?;
                self.game_id = answer.into_inner().game.unwrap_or_default().game_id;
            }
            1 => {
                let request = JoinGameRequest {
                    game_id: self.game_id.clone(),
                };
                self.client.join_game(with_token(request, &self.tokens[1])).await?;
            }
            step => {
                let request = MakeMoveRequest {
                    game_id: self.game_id.clone(),
                    cell: Some(CELLS[step - 2]),
                    expected_version: i64::try_from(step).unwrap_or(0),
                };
                let answer = self
                    .client
                    .make_move(with_token(request, &self.tokens[step % 2]))
                    .await?;
                let is_over = answer.into_inner().game.unwrap_or_default().finish_time.is_some();
                assert_eq!(is_over, step == CELLS.len() + 1, "the last move ends the game");
            }
        }
        self.step = (self.step + 1) % (CELLS.len() + 2);
        Ok(())
    }
}

impl Caller for Pair {
    async fn call(&mut self) -> Result<(), Status> {
        self.next().await
    }
}

/// Plays the first four moves of a game.
pub(crate) async fn play_half(game: &Game, number: usize) -> Played {
    let mut pair = Pair::new(game, number);
    for _ in 0..6 {
        pair.next().await.expect("played");
    }
    let [token, _] = pair.tokens;
    Played {
        game_id: pair.game_id,
        token,
    }
}

pub(crate) async fn run(setup: &Setup<'_>, report: &mut Report) {
    let game = Game::start(setup.engine).await;
    let mut ours: Vec<Pair> = (0..setup.connections).map(|number| Pair::new(&game, number)).collect();
    let mut loops = Vec::new();
    let writer = Arc::new(Mutex::new(BareConn::open(&game.database.url).await));
    for _ in 0..setup.connections {
        let conn = match setup.engine.backend() {
            // SQLite has one writer at a time, so all callers share one connection.
            Backend::Sqlite => Arc::clone(&writer),
            Backend::Postgres => Arc::new(Mutex::new(BareConn::open(&game.database.url).await)),
        };
        loops.push(BarePair::new(conn));
    }
    let own = Processors::own(game.database.processes.clone());
    let (mut us, mut bare, mut ratios) = (Rounds::default(), Rounds::default(), Vec::new());
    for _ in 0..setup.rounds {
        us.push(setup.time.drive(&mut ours, &game.processors()).await);
        bare.push(setup.time.drive(&mut loops, &own).await);
        ratios.push(us.last().goodput() / bare.last().goodput());
    }
    let what = "calls/s of whole games, against their transactions in a bare loop";
    let backend = Some(setup.engine.backend());
    let row = Row::new(
        "MakeMove, whole games",
        backend,
        what,
        (Spread::of(ratios), Unit::Times),
        Goal::AtLeast(0.6),
    );
    report.add(row.with("ours", &us).with("bare transactions", &bare));
    if setup.engine.backend() == Backend::Postgres {
        report.add(nakama::SCORE.beside("MakeMove, whole games", Some(Backend::Postgres), &us));
    }
}

/// The same work without a service: one transaction per call, which writes the rows that a game
/// leaves behind.
struct BarePair {
    conn: Arc<Mutex<BareConn>>,
    players: [UserId; 2],
    /// Id of the game. The type of the id does not matter here.
    game: UserId,
    step: usize,
}

macro_rules! run {
    ($conn:expr, $statement:expr) => {{
        let statement = $statement;
        let rows: usize = on!($conn, |c| statement.execute(c).await).expect("a statement");
        rows
    }};
}

impl BarePair {
    fn new(conn: Arc<Mutex<BareConn>>) -> Self {
        Self {
            conn,
            players: [UserId::generate(), UserId::generate()],
            game: UserId::generate(),
            step: 0,
        }
    }

    async fn insert_player(conn: &mut BareConn, player: UserId) {
        run!(
            conn,
            prepared::<()>("INSERT INTO players (id, login) VALUES (")
                .bind::<sql_types::Uuid, _>(player)
                .text(", ")
                .bind::<Text, _>("somebody")
                .text(") ON CONFLICT DO NOTHING")
        );
    }

    async fn create(&mut self, conn: &mut BareConn, now: Timestamp) {
        self.game = UserId::generate();
        let [x, _] = self.players;
        Self::insert_player(conn, x).await;
        run!(
            conn,
            prepared::<()>(
                "INSERT INTO games (id, opponent, creator_id, x_player_id, board, state, version, create_time, \
                 update_time, sweep_time, expire_time) VALUES ("
            )
            .bind::<sql_types::Uuid, _>(self.game)
            .text(", 'player', ")
            .bind::<sql_types::Uuid, _>(x)
            .text(", ")
            .bind::<sql_types::Uuid, _>(x)
            .text(", '.........', 'waiting', 1, ")
            .bind::<sql_types::Timestamp, _>(now)
            .text(", ")
            .bind::<sql_types::Timestamp, _>(now)
            .text(", ")
            .bind::<sql_types::Timestamp, _>(now.plus(A_DAY))
            .text(", ")
            .bind::<sql_types::Timestamp, _>(now.plus(A_DAY))
            .text(")")
        );
    }

    /// Reads the game and, on PostgreSQL, locks its row.
    async fn lock(&self, conn: &mut BareConn) {
        let game = self.game;
        macro_rules! select {
            ($lock:literal) => {
                prepared::<(BigInt, Text)>("SELECT version, board FROM games WHERE id = ")
                    .bind::<sql_types::Uuid, _>(game)
                    .text($lock)
            };
        }
        let (version, board): (i64, String) = match conn {
            BareConn::Sqlite(c) => select!("").get_result(&mut **c).await,
            BareConn::Postgres(c) => select!(" FOR UPDATE").get_result(&mut **c).await,
        }
        .expect("the game");
        assert_eq!((usize::try_from(version), board.len()), (Ok(self.step), 9));
    }

    async fn join(&mut self, conn: &mut BareConn, now: Timestamp) {
        self.lock(conn).await;
        let [_, o] = self.players;
        Self::insert_player(conn, o).await;
        run!(
            conn,
            prepared::<()>("UPDATE games SET o_player_id = ")
                .bind::<sql_types::Uuid, _>(o)
                .text(", state = 'turn', version = 2, update_time = ")
                .bind::<sql_types::Timestamp, _>(now)
                .text(", expire_time = ")
                .bind::<sql_types::Timestamp, _>(now.plus(A_DAY))
                .text(" WHERE id = ")
                .bind::<sql_types::Uuid, _>(self.game)
        );
    }

    async fn make_move(&mut self, conn: &mut BareConn, now: Timestamp) {
        self.lock(conn).await;
        let ply = self.step - 2;
        let is_last = ply + 1 == CELLS.len();
        let board: String = (0..9)
            .map(|cell| if cell > ply { '.' } else { ['X', 'O'][cell % 2] })
            .collect();
        let version = i64::try_from(self.step + 1).unwrap_or(0);
        let moves: Vec<String> = (0..=ply)
            .map(|ply| format!("{} {} {}", CELLS[ply], ply + 3, now.as_micros()))
            .collect();
        let (state, winner) = if is_last { ("won", Some("X")) } else { ("turn", None) };
        run!(
            conn,
            prepared::<()>("UPDATE games SET board = ")
                .bind::<Text, _>(board)
                .text(", state = ")
                .bind::<Text, _>(state)
                .text(", winner = ")
                .bind::<diesel::sql_types::Nullable<Text>, _>(winner)
                .text(", version = ")
                .bind::<BigInt, _>(version)
                .text(", update_time = ")
                .bind::<sql_types::Timestamp, _>(now)
                .text(", expire_time = ")
                .bind::<diesel::sql_types::Nullable<sql_types::Timestamp>, _>((!is_last).then_some(now.plus(A_DAY)))
                .text(", finish_time = ")
                .bind::<diesel::sql_types::Nullable<sql_types::Timestamp>, _>(is_last.then_some(now))
                .text(", end_reason = ")
                .bind::<diesel::sql_types::Nullable<Text>, _>(is_last.then_some("line"))
                .text(", moves = ")
                .bind::<Text, _>(moves.join(","))
                .text(" WHERE id = ")
                .bind::<sql_types::Uuid, _>(self.game)
        );
        if is_last {
            self.count(conn, now).await;
        }
    }

    /// Writes two rows of history and adds to the stats of both players.
    async fn count(&self, conn: &mut BareConn, now: Timestamp) {
        for place in [0, 1] {
            let (user, opponent) = (self.players[place], self.players[1 - place]);
            let (result, wins) = if place == 0 { ("won", 1) } else { ("lost", 0) };
            run!(
                conn,
                prepared::<()>(
                    "INSERT INTO game_results (user_id, game_id, result, opponent_id, finish_time, end_reason) VALUES ("
                )
                .bind::<sql_types::Uuid, _>(user)
                .text(", ")
                .bind::<sql_types::Uuid, _>(self.game)
                .text(", ")
                .bind::<Text, _>(result)
                .text(", ")
                .bind::<sql_types::Uuid, _>(opponent)
                .text(", ")
                .bind::<sql_types::Timestamp, _>(now)
                .text(", 'line')")
            );
            run!(
                conn,
                prepared::<()>("INSERT INTO player_stats (user_id, wins, losses, draws, last_finish_time) VALUES (")
                    .bind::<sql_types::Uuid, _>(user)
                    .text(", ")
                    .bind::<BigInt, _>(wins)
                    .text(", ")
                    .bind::<BigInt, _>(1 - wins)
                    .text(", 0, ")
                    .bind::<sql_types::Timestamp, _>(now)
                    .text(
                        ") ON CONFLICT (user_id) DO UPDATE SET wins = player_stats.wins + excluded.wins, \
                     losses = player_stats.losses + excluded.losses, last_finish_time = excluded.last_finish_time"
                    )
            );
        }
    }
}

impl Caller for BarePair {
    async fn call(&mut self) -> Result<(), Status> {
        let conn = Arc::clone(&self.conn);
        let mut conn = conn.lock().await;
        let now = Clock::system().now();
        conn.begin().await;
        match self.step {
            0 => self.create(&mut conn, now).await,
            1 => self.join(&mut conn, now).await,
            _ => self.make_move(&mut conn, now).await,
        }
        conn.commit().await;
        self.step = (self.step + 1) % (CELLS.len() + 2);
        Ok(())
    }
}
