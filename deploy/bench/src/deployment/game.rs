//! game-service alone, whose tokens are made here.

use std::{
    fs,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use shared::{
    clock::Clock,
    ids::UserId,
    testing::{program::Program, rpc::channel, tokens::TokenMint},
};
use tempfile::TempDir;
use tonic::transport::Channel;

use super::{executable, free_address, started};
use crate::{
    engine::{Database, Engine},
    load::Processors,
    process::Processes,
};

/// game-service alone.
pub(crate) struct Game {
    program: Program,
    pub(crate) database: Database,
    mint: TokenMint,
    /// Of those who were there from the start.
    players: Vec<UserId>,
    address: SocketAddr,
    pub(crate) seeding: Duration,
    folder: TempDir,
}

impl Game {
    pub(crate) async fn start(engine: &Engine) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = engine.database(folder.path()).await;
        let mint = TokenMint::random();
        let key = folder.path().join("key.pem");
        fs::write(&key, mint.public_pem()).expect("write a file");
        let (grpc, http) = (free_address(), free_address());
        let program = Program::start(
            &executable("game-service"),
            [
                "serve",
                "--game-listen",
                &grpc.to_string(),
                "--game-http-listen",
                &http.to_string(),
                "--database-url",
                &database.url,
                "--auth-keys-file",
                key.to_str().expect("UTF-8"),
                "--log-level",
                "error",
            ],
        );
        started(grpc).await;
        Self {
            program,
            database,
            mint,
            players: Vec::new(),
            address: grpc,
            seeding: Duration::ZERO,
            folder,
        }
    }

    /// With so many players who have played so many games.
    pub(crate) async fn start_with(engine: &Engine, players: u32, games: u64) -> Self {
        let mut game = Self::start(engine).await;
        let file = game.folder.path().join("players");
        let start = Instant::now();
        let seeded = Command::new(executable("game-service"))
            .args(["seed", "--players", &players.to_string(), "--games", &games.to_string()])
            .args(["--random-seed", "1", "--database-url", &game.database.url])
            .arg("--players-file")
            .arg(&file)
            .status()
            .expect("run the program");
        assert!(seeded.success(), "{seeded:?}");
        game.seeding = start.elapsed();
        let ids = fs::read_to_string(file).expect("the players");
        game.players = ids.lines().map(|id| id.parse().expect("an id")).collect();
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
        // A stride that shares no factor with most sizes, so that the calls are spread over all players.
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
