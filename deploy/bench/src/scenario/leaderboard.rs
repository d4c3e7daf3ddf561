//! What the leaderboard costs with so many players, for one client that calls again and again.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use shared::{
    clock::Clock,
    db::Backend,
    proto::game::v1::{
        GetLeaderboardRequest, GetPlayerRankRequest, ListAroundPlayerRequest,
        leaderboard_service_client::LeaderboardServiceClient,
    },
    testing::{TestDatabase, program::Program, rpc::with_token, tokens::TokenMint},
};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

use crate::{
    cpu::Processes,
    deployment::{executable, free_address, memory, started},
    statistics::Times,
};

/// How much of it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Size {
    /// How many players, one measurement after the other.
    #[arg(long, value_delimiter = ',', default_value = "1000,100000", value_name = "N,...")]
    players: Vec<u32>,
    /// How many games for each two players [1 to 1000].
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    games_per_pair: u32,
    /// How many calls of each kind [100 to 1000000].
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    calls: u32,
}

/// game-service alone, whose tokens are ours.
struct Game {
    program: Program,
    /// Where it is not part of the service.
    database: Option<Processes>,
    mint: TokenMint,
    players: Vec<String>,
    client: LeaderboardServiceClient<Channel>,
    seeding: Duration,
    /// They go with it.
    _folder: TempDir,
    _database: Option<TestDatabase>,
}

impl Game {
    async fn start(backend: Backend, players: u32, games: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        let database = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(TestDatabase::create_empty(backend).await),
        };
        let url = database.as_ref().map_or_else(
            || format!("sqlite:{}", path("game.db")),
            |database| database.url().to_owned(),
        );
        let mint = TokenMint::random();
        fs::write(path("key.pem"), mint.public_pem()).expect("write a file");
        let (grpc, http) = (free_address(), free_address());
        let (at, http_at, key) = (grpc.to_string(), http.to_string(), path("key.pem"));
        let program = Program::start(
            &executable("game-service"),
            [
                "serve",
                "--game-listen",
                &at,
                "--game-http-listen",
                &http_at,
                "--database-url",
                &url,
                "--auth-keys-file",
                &key,
                "--log-level",
                "error",
            ],
        );
        started(grpc).await;
        let start = Instant::now();
        let seeded = Command::new(executable("game-service"))
            .args(["seed", "--players", &players.to_string(), "--games", &games.to_string()])
            .args(["--players-file", &path("players"), "--database-url", &url])
            .output()
            .expect("run the program");
        assert!(seeded.status.success(), "{seeded:?}");
        let seeding = start.elapsed();
        let ids = fs::read_to_string(path("players")).expect("the players");
        let name = url.rsplit('/').next().unwrap_or_default();
        Self {
            database: match backend {
                Backend::Sqlite => None,
                Backend::Postgres => Some(Processes::Backends(
                    name.split('?').next().unwrap_or_default().to_owned(),
                )),
            },
            program,
            mint,
            players: ids.lines().map(str::to_owned).collect(),
            client: LeaderboardServiceClient::new(shared::testing::rpc::channel(grpc)),
            seeding,
            _folder: folder,
            _database: database,
        }
    }

    /// The token of the player that a call of this number is about.
    fn token(&self, number: u32) -> String {
        // A stride that shares no factor with most sizes, so that the calls are spread over all players.
        let index = (number as usize).wrapping_mul(7919) % self.players.len();
        let id = self.players[index].parse().expect("an id");
        self.mint
            .sign(&self.mint.claims_for(id, "somebody", &["player"], Clock::system().now()))
    }

    async fn measure(
        &self,
        what: &str,
        calls: u32,
        call: impl AsyncFn(LeaderboardServiceClient<Channel>, &str) -> Result<usize, Status>,
    ) {
        // Signing is not what is measured.
        let tokens: Vec<String> = (0..calls.min(1000)).map(|number| self.token(number)).collect();
        for token in tokens.iter().take(100) {
            call(self.client.clone(), token).await.expect("an answer");
        }
        let service = Processes::One(self.program.id());
        let of_database = || self.database.as_ref().map_or(0.0, Processes::micros);
        let before = (service.micros(), of_database());
        let mut times = Vec::new();
        let mut entries = 0;
        for token in tokens.iter().cycle().take(calls as usize) {
            let start = Instant::now();
            entries += call(self.client.clone(), token).await.expect("an answer");
            times.push(start.elapsed());
        }
        let per_call = |micros: f64| micros / f64::from(calls);
        println!(
            "  {what:<16} {}; CPU {:.0} us service, {:.0} us database; {entries} entries",
            Times::new(times),
            per_call(service.micros() - before.0),
            per_call(of_database() - before.1),
        );
    }
}

pub(crate) async fn run(backend: Backend, size: &Size) {
    for players in &size.players {
        let games = u64::from(*players) * u64::from(size.games_per_pair) / 2;
        let game = Game::start(backend, *players, games.max(1)).await;
        println!(
            "{backend:?}, {players} players, {games} games: seeded in {:.1} s; game-service has {:.1} MiB",
            game.seeding.as_secs_f64(),
            memory(game.program.id(), "VmRSS")
        );
        for (what, limit) in [("top 10", 10), ("top 1000", 1000)] {
            let calls = if limit == 1000 {
                (size.calls / 10).max(100)
            } else {
                size.calls
            };
            let top = async |mut client: LeaderboardServiceClient<Channel>, token: &str| {
                let answer = client
                    .get_leaderboard(with_token(GetLeaderboardRequest { limit }, token))
                    .await?;
                Ok(answer.into_inner().entries.len())
            };
            game.measure(what, calls, top).await;
        }
        let rank = async |mut client: LeaderboardServiceClient<Channel>, token: &str| {
            let answer = client
                .get_player_rank(with_token(GetPlayerRankRequest::default(), token))
                .await?;
            Ok(usize::from(
                answer.into_inner().entry.is_some_and(|entry| entry.rank > 0),
            ))
        };
        game.measure("my rank", size.calls, rank).await;
        let around = async |mut client: LeaderboardServiceClient<Channel>, token: &str| {
            let request = ListAroundPlayerRequest {
                limit: 10,
                ..ListAroundPlayerRequest::default()
            };
            let answer = client.list_around_player(with_token(request, token)).await?;
            Ok(answer.into_inner().entries.len())
        };
        game.measure("10 around me", size.calls, around).await;
        println!(
            "  afterwards game-service has {:.1} MiB",
            memory(game.program.id(), "VmRSS")
        );
    }
}
