//! game-service alone, whose tokens are made here.

use std::{
    fs,
    net::SocketAddr,
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

/// Players that are made at a time.
const BATCH: u32 = 50_000;

/// The name of the file with the key that tokens are verified with.
const KEY: &str = "key.pem";

/// game-service alone.
pub(crate) struct Game {
    program: Program,
    pub(crate) database: Database,
    mint: TokenMint,
    /// Ids of the players that were there from the start.
    players: Vec<UserId>,
    address: SocketAddr,
    pub(crate) seeding: Duration,
    folder: TempDir,
}

impl Game {
    pub(crate) async fn start(engine: &Engine) -> Self {
        Self::start_as(engine, &[]).await
    }

    /// With these options beside those that it needs.
    pub(crate) async fn start_as(engine: &Engine, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = engine.database(folder.path()).await;
        let mint = TokenMint::random();
        fs::write(folder.path().join(KEY), mint.public_pem()).expect("write a file");
        let (program, address) = Self::serve(&database, &folder, options).await;
        Self {
            program,
            database,
            mint,
            players: Vec::new(),
            address,
            seeding: Duration::ZERO,
            folder,
        }
    }

    async fn serve(database: &Database, folder: &TempDir, options: &[&str]) -> (Program, SocketAddr) {
        let key = folder.path().join(KEY);
        let key = key.to_str().expect("UTF-8");
        let options = [&["--auth-keys-file", key], options].concat();
        serve_game(&database.url, &options).await
    }

    /// With so many players whose stats are as if they had played, 1 to 100 games each. The games
    /// are not there: nothing that ranks them reads games, and to write them would take longer than
    /// everything else.
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
        // Up to so many, by lot; the time of the last game; and an id.
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
        // By the first digit of their ids.
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
        // What PostgreSQL would do by itself within a minute, in the midst of the measurement, and
        // then plan all statements anew.
        let analyze = match engine.backend() {
            Backend::Sqlite => "ANALYZE",
            Backend::Postgres => "VACUUM (ANALYZE)",
        };
        on!(&mut conn, |c| c.batch_execute(analyze).await).expect("analysed");
        bar.finish_and_clear();
        game.seeding = start.elapsed();
        let ids = prepared::<sql_types::Uuid>("SELECT id FROM players ORDER BY id LIMIT 5000");
        game.players = on!(&mut conn, |c| ids.load(c).await).expect("the players");
        // PostgreSQL keeps what it thought of a plan when it was first made, which must not be when
        // the tables were half full.
        drop(game.program);
        (game.program, game.address) = Self::serve(&game.database, &game.folder, options).await;
        game
    }

    /// A connection of its own.
    pub(crate) fn channel(&self) -> Channel {
        channel(self.address)
    }

    /// The token of a new player.
    pub(crate) fn newcomer(&self, login: &str) -> String {
        self.token(UserId::generate(), login)
    }

    /// The token of the player that a call of this number is about.
    pub(crate) fn player(&self, number: usize) -> String {
        // A stride that shares no factor with most sizes, so that the calls are spread over all
        // players.
        self.token(self.players[number.wrapping_mul(7919) % self.players.len()], "somebody")
    }

    fn token(&self, id: UserId, login: &str) -> String {
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
