//! Kills game-service again and again in the middle of its work. `KILL_ROUNDS` sets the number of
//! kills for each backend (default 6).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base::clock::Clock;
use db::Backend;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use testing::{
    TestDatabase, on_both_backends,
    program::{Program, Signal, serving},
    rounds,
    tokens::TokenMint,
};
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use crate::{
    interleavings::{Client, report},
    model::{Ledger, has_no_drift},
    support::Player,
};

const PLAYERS: usize = 4;
const CLIENTS: usize = 6;

/// Folder, database and key of the program.
struct ProgramFiles {
    folder: TempDir,
    url: String,
    mint: TokenMint,
}

impl ProgramFiles {
    async fn serve(&self) -> (Program, SocketAddr) {
        let key = self.folder.path().join("public.pem");
        std::fs::write(&key, self.mint.public_pem()).expect("write a file");
        let key = key.to_str().expect("UTF-8");
        let arguments = [
            "serve",
            "--game-listen",
            "127.0.0.1:0",
            "--game-http-listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--log-level",
            "info",
            "--database-url",
            &self.url,
            "--auth-keys-file",
            key,
        ];
        let program = Program::start(env!("CARGO_BIN_EXE_game-service"), arguments);
        let grpc = program.addresses().await.grpc;
        serving(grpc).await;
        (program, grpc)
    }
}

/// Checks whether a client may see this error when the server dies.
fn is_cut_off(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal
    )
}

#[on_both_backends]
async fn nothing_that_was_acknowledged_is_lost_and_nothing_counts_twice(database: TestDatabase) {
    let rounds = rounds("KILL_ROUNDS", 6);
    let folder = tempfile::tempdir().expect("a temporary directory");
    // A SQLite file is served by one process. A PostgreSQL database is served by two here, of which
    // one is killed at a time.
    let url = match database.backend() {
        Backend::Sqlite => format!("sqlite:{}/game.db", folder.path().display()),
        Backend::Postgres => database.url().to_owned(),
    };
    let files = ProgramFiles {
        folder,
        url,
        mint: TokenMint::random(),
    };
    let is_pair = database.backend() == Backend::Postgres;
    let ledger = Arc::new(Ledger::default());
    let mut random = StdRng::from_rng(&mut rand::rng());
    let (mut victim, mut grpc) = files.serve().await;
    let mut other = if is_pair { Some(files.serve().await) } else { None };
    let players: Vec<Player> = (0..PLAYERS)
        .map(|index| Player::new(&files.mint, &format!("player{index}"), Clock::system().now(), grpc))
        .collect();
    for _ in 0..rounds {
        let at_other = other.as_ref().map_or(grpc, |(_, address)| *address);
        let mut clients = tokio::task::JoinSet::new();
        let steps = Arc::new(Semaphore::new(0));
        for index in 0..CLIENTS {
            let player = &players[index % PLAYERS];
            let mut client = Client {
                here: player.calling(grpc),
                there: player.calling(at_other),
                random: StdRng::from_rng(&mut random),
                ledger: Arc::clone(&ledger),
            };
            let steps = Arc::clone(&steps);
            clients.spawn(async move {
                loop {
                    if let Err(status) = client.step().await {
                        assert!(is_cut_off(&status), "{status:?}");
                        return;
                    }
                    steps.add_permits(1);
                }
            });
        }
        // The moment of the kill is random: after this many steps of all clients together, while
        // other clients are in the middle of a step.
        let enough = steps.acquire_many(random.random_range(20..150));
        drop(
            tokio::time::timeout(Duration::from_secs(60), enough)
                .await
                .expect("the clients go on")
                .expect("open"),
        );
        victim.signal(Signal::Kill);
        victim.ended().await;
        while let Some(ended) = clients.join_next().await {
            ended.expect("a client to the end");
        }
        (victim, grpc) = files.serve().await;
        if let Some((second, address)) = other.take() {
            // The other process is killed next.
            other = Some((
                std::mem::replace(&mut victim, second),
                std::mem::replace(&mut grpc, address),
            ));
        }
    }
    let players: Vec<Player> = players.iter().map(|player| player.calling(grpc)).collect();
    let counted = ledger.verify(&players).await;
    report(&format!(
        "{:?}: killed {rounds} times; {} games were reported to clients, and {counted} count",
        database.backend(),
        ledger.games().len()
    ));
    assert!(counted > 0, "no game came to an end that counts");
    has_no_drift(&files.url);
    victim.signal(Signal::Terminate);
    assert_eq!(victim.ended().await.code, Some(0));
}
