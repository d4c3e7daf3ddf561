//! Races of fifty clients that rotate the same refresh token at once. Counts how often the rules of
//! rotation are broken.
//!
//! `RACE_ROUNDS=200 cargo test --workspace -- rotation_races --nocapture` prints a line per
//! database.

use std::fmt;

use proto::auth::v1::TokenPair;
use testing::{TestDatabase, on_both_backends, rounds, rpc::reason};

use crate::support::{Server, rotate, settings};

const RACERS: usize = 50;
const DEFAULT_ROUNDS: usize = 5;

/// Outcomes of the rounds.
#[derive(Debug, Default)]
struct Count {
    rounds: usize,
    /// Races in which more than one caller got a pair.
    double_spends: usize,
    /// Races that left more than one valid refresh token.
    forks: usize,
    /// Races after which the winner's token was refused.
    false_logouts: usize,
    /// Old tokens that ended the session when they were sent after a use of their successor.
    reuses_caught: usize,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rounds,
            double_spends,
            forks,
            false_logouts,
            reuses_caught,
        } = self;
        write!(
            f,
            "rounds {rounds}, racers {RACERS}, double spends {double_spends}, forks {forks}, false logouts \
             {false_logouts}, sequential reuses caught {reuses_caught}"
        )
    }
}

#[on_both_backends]
async fn rotation_races_have_one_winner_and_every_reuse_is_caught(database: TestDatabase) {
    let backend = database.backend();
    let server = Server::start_with(database, &settings(&["--login-burst", "10000"])).await;
    let (_running, replica) = server.replica().await;
    let mut count = Count {
        rounds: rounds("RACE_ROUNDS", DEFAULT_ROUNDS),
        ..Count::default()
    };
    server.register("ann").await;
    for _ in 0..count.rounds {
        let first = server.login("ann").await;
        let racers = (0..RACERS).map(|index| {
            // Half of the racers call another replica.
            let mut client = if index % 2 == 0 { server.auth() } else { replica.clone() };
            let token = first.refresh_token.clone();
            tokio::spawn(async move { rotate(&mut client, &token, "").await })
        });
        let mut won: Vec<TokenPair> = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            match racer.await.expect("joined") {
                Ok(pair) => won.push(pair),
                Err(status) => assert_eq!(reason(&status), "ROTATION_OVERLAP", "{status}"),
            }
        }
        count.double_spends += usize::from(won.len() > 1);
        let mut good = Vec::new();
        for pair in &won {
            good.extend(server.rotate(&pair.refresh_token, "").await.ok());
        }
        count.forks += usize::from(good.len() > 1);
        count.false_logouts += usize::from(good.is_empty());
        // The token of the race was replaced, and so was its successor. Sending it is a reuse.
        let reused = server.rotate(&first.refresh_token, "").await.err();
        let caught = reused.is_some_and(|status| reason(&status) == "REFRESH_TOKEN_REUSED");
        let mut dead = true;
        for pair in &good {
            dead &= server.rotate(&pair.refresh_token, "").await.is_err();
        }
        count.reuses_caught += usize::from(caught && dead);
    }
    #[expect(clippy::print_stdout, reason = "the figure is what it is run for")]
    {
        println!("{backend:?}: {count}");
    }
    assert_eq!(
        (
            count.double_spends,
            count.forks,
            count.false_logouts,
            count.reuses_caught
        ),
        (0, 0, 0, count.rounds),
        "{count}"
    );
}
