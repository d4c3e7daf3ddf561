//! game-service alone, without auth-service. The benchmark signs the access tokens.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use base::{clock::Clock, ids::UserId, sql_types};
use db::{Backend, prepared};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use tempfile::TempDir;
use testing::{program::Program, rpc::channel, tokens::TokenMint};
use tonic::transport::Channel;

use super::serve_game;
use crate::{
    baseline::bare_sql::{BareConn, on},
    engine::{Database, Engine},
    load::Processors,
    process::Processes,
};

/// Number of players that are inserted at a time.
const BATCH: u32 = 50_000;

/// Name of the file with the key that verifies tokens.
const KEY: &str = "key.pem";

/// A running game-service. It ends when this value is dropped.
pub(crate) struct Game {
    program: Program,
    pub(crate) database: Database,
    mint: TokenMint,
    /// Ids of up to 5000 of the players that were there from the start.
    players: Vec<UserId>,
    address: SocketAddr,
    pub(crate) seeding: Duration,
    /// The latest start, and the one before, which was on an empty database.
    pub(crate) starts: [Start; 2],
    folder: TempDir,
}

/// Start of a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// Time until the service was SERVING.
    pub(crate) time: Duration,
    /// Memory of the service at that moment, in MiB.
    pub(crate) memory: f64,
}

impl Game {
    pub(crate) async fn start(engine: &Engine) -> Self {
        Self::start_as(engine, &[]).await
    }

    /// Starts game-service with these options in addition to those that it needs.
    pub(crate) async fn start_as(engine: &Engine, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = engine.database(folder.path()).await;
        let mint = TokenMint::random();
        fs::write(folder.path().join(KEY), mint.public_pem()).expect("write a file");
        let (program, address, start) = Self::serve(&database, &folder, options).await;
        Self {
            program,
            database,
            mint,
            players: Vec::new(),
            address,
            seeding: Duration::ZERO,
            starts: [start; 2],
            folder,
        }
    }

    async fn serve(database: &Database, folder: &TempDir, options: &[&str]) -> (Program, SocketAddr, Start) {
        let key = folder.path().join(KEY);
        let key = key.to_str().expect("UTF-8");
        let options = [&["--auth-keys-file", key], options].concat();
        let begin = Instant::now();
        let (program, address) = serve_game(&database.url, &options).await;
        let start = Start {
            time: begin.elapsed(),
            memory: Processes::One(program.id()).memory(),
        };
        (program, address, start)
    }

    /// Starts game-service with this many players. Their stats look as if each had played 1 to 100
    /// games, but the games do not exist. The ranking does not read games, and writing them would
    /// take longer than everything else.
    pub(crate) async fn start_ranked(engine: &Engine, players: u32, options: &[&str]) -> Self {
        let mut game = Self::start_as(engine, options).await;
        let start = Instant::now();
        let mut conn = BareConn::open(&game.database.url).await;
        let bar = super::progress("players", 2 * u64::from(players));
        let mut first = 1;
        while first <= players {
            let last = players.min(first + BATCH - 1);
            let insert = match engine.backend() {
                Backend::Sqlite => format!(
                    "WITH RECURSIVE numbers (number) AS (SELECT {first} UNION ALL SELECT number + 1 FROM numbers \
                     WHERE number < {last}) \
                     INSERT INTO players (id, login) SELECT randomblob(16), 'player-' || number FROM numbers;"
                ),
                Backend::Postgres => format!(
                    "INSERT INTO players (id, login) SELECT gen_random_uuid(), 'player-' || number \
                     FROM generate_series({first}, {last}) AS numbers (number);"
                ),
            };
            on!(&mut conn, |c| c.batch_execute(&insert).await).expect("players");
            bar.inc((last - first + 1).into());
            first = last + 1;
        }
        // SQL for a random number below a limit, for the time of the last game, and for an id as
        // text.
        let (lot, time, id) = match engine.backend() {
            Backend::Sqlite => (
                "abs(random() % (",
                "unixepoch() * 1000000 - abs(random() % 2592000000000)",
                "hex(id)",
            ),
            Backend::Postgres => (
                "floor(random() * (",
                "now() - random() * interval '30 days'",
                "upper(CAST(id AS text))",
            ),
        };
        // The rows are inserted in 16 parts, by the first digit of their ids.
        for digit in "0123456789ABCDEF".chars() {
            let insert = format!(
                "WITH played AS MATERIALIZED (SELECT id, CAST(1 + {lot}100)) AS BIGINT) AS games FROM players WHERE \
                 {id} LIKE '{digit}%'), won AS MATERIALIZED (SELECT id, games, CAST({lot}games + 1)) AS BIGINT) AS \
                 wins FROM played), drawn AS MATERIALIZED (SELECT id, games, wins, CAST({lot}games - wins + 1)) AS \
                 BIGINT) AS draws FROM won) INSERT INTO player_stats (user_id, wins, losses, draws, last_finish_time) \
                 SELECT id, wins, games - wins - draws, draws, {time} FROM drawn;"
            );
            on!(&mut conn, |c| c.batch_execute(&insert).await).expect("stats");
            bar.inc(u64::from(players) / 16);
        }
        // PostgreSQL would do this by itself within a minute, in the middle of the measurement, and
        // then plan all statements again.
        let analyze = match engine.backend() {
            Backend::Sqlite => "ANALYZE",
            Backend::Postgres => "VACUUM (ANALYZE)",
        };
        on!(&mut conn, |c| c.batch_execute(analyze).await).expect("analysed");
        bar.finish_and_clear();
        game.seeding = start.elapsed();
        let ids = prepared::<sql_types::Uuid>("SELECT id FROM players ORDER BY id LIMIT 5000");
        game.players = on!(&mut conn, |c| ids.load(c).await).expect("the players");
        // The service is restarted, because PostgreSQL keeps the plans of its connections. They
        // must not date from when the tables were half full.
        drop(game.program);
        game.starts.swap(0, 1);
        (game.program, game.address, game.starts[0]) = Self::serve(&game.database, &game.folder, options).await;
        game
    }

    /// Stops the service while this work is done, and starts it again on its database.
    pub(crate) async fn rest_during(mut self, work: impl Future<Output = ()>) -> Self {
        drop(self.program);
        work.await;
        let start;
        (self.program, self.address, start) = Self::serve(&self.database, &self.folder, &[]).await;
        self.starts = [start, self.starts[0]];
        self
    }

    /// Returns the path of the file with the key that verifies tokens.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.path().join(KEY)
    }

    /// Creates a new connection.
    pub(crate) fn channel(&self) -> Channel {
        channel(self.address)
    }

    /// Creates a token for a new player.
    pub(crate) fn newcomer(&self, login: &str) -> String {
        self.token(UserId::generate(), login)
    }

    /// Creates a token for the player that the call with this number is about.
    pub(crate) fn player(&self, number: usize) -> String {
        // A stride that shares no factor with most sizes, so that the calls are spread over all
        // players.
        self.token(self.players[number.wrapping_mul(7919) % self.players.len()], "somebody")
    }

    /// Creates a token for this player.
    pub(crate) fn token(&self, id: UserId, login: &str) -> String {
        let claims = self.mint.claims_for(id, login, &["player"], Clock::system().now());
        self.mint.sign(&claims)
    }

    pub(crate) fn processors(&self) -> Processors {
        Processors {
            service: Processes::One(self.program.id()),
            database: self.database.processes.clone(),
        }
    }
}
