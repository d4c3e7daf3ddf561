//! Many clients act at random on two replicas at the same time, and repeat some of their requests.
//! `MODEL_ROUNDS` sets the number of rounds (default 3).

use std::{sync::Arc, time::Duration};

use proto::game::v1::{Game, Mark, Opponent};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use testing::{TestDatabase, on_both_backends, rounds};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    model::{Ledger, has_no_drift},
    support::{Player, Server},
};

const PLAYERS: usize = 4;
const CLIENTS: usize = 8;
const STEPS: usize = 40;

/// Client that calls one replica or the other.
pub(crate) struct Client {
    pub(crate) here: Player,
    pub(crate) there: Player,
    pub(crate) random: StdRng,
    pub(crate) ledger: Arc<Ledger>,
}

/// Checks whether a client may get this error instead of a game. Any other error is a fault.
fn is_expected(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::NotFound | Code::FailedPrecondition | Code::Aborted | Code::PermissionDenied
    )
}

impl Client {
    /// Takes one random step. Returns an error only if it is not an expected one.
    pub(crate) async fn step(&mut self) -> Result<(), Status> {
        let own = self.here.my_games(100, "").await?.games;
        // A client with many unfinished games plays them, so that games come to an end.
        let result = match self.random.random_range(0..100) {
            0..30 if own.len() < 4 => self.create().await,
            30..60 if own.len() < 8 => self.join().await,
            _ => self.play(own).await,
        };
        result.or_else(|status| if is_expected(&status) { Ok(()) } else { Err(status) })
    }

    /// Makes a call once or twice. The second call goes to the other replica, after the first one
    /// or at the same time.
    async fn perhaps_again<T>(&mut self, call: impl AsyncFn(&Player) -> Result<T, Status>) -> Vec<Result<T, Status>> {
        match self.random.random_range(0..10) {
            0..6 => vec![call(&self.here).await],
            6..8 => vec![call(&self.here).await, call(&self.there).await],
            _ => {
                let (one, other) = tokio::join!(call(&self.here), call(&self.there));
                vec![one, other]
            }
        }
    }

    async fn create(&mut self) -> Result<(), Status> {
        let request_id = Uuid::new_v4().to_string();
        let opponent = if self.random.random_bool(0.2) {
            Opponent::Computer
        } else {
            Opponent::Player
        };
        let mark = [Mark::Unspecified, Mark::X, Mark::O][self.random.random_range(0..3)];
        let id = request_id.clone();
        for made in self
            .perhaps_again(async move |player| player.create_once(opponent, mark, &id).await)
            .await
        {
            self.ledger.created(&request_id, &made?);
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<(), Status> {
        let open = self.here.open_games(0, "").await?.games;
        if open.is_empty() {
            return Ok(());
        }
        let id = open[self.random.random_range(0..open.len())].game_id.clone();
        for joined in self.perhaps_again(async move |player| player.join(&id).await).await {
            self.ledger.told(&joined?);
        }
        Ok(())
    }

    async fn play(&mut self, mut own: Vec<Game>) -> Result<(), Status> {
        for game in &own {
            self.ledger.told(game);
        }
        // Mostly chooses a game in which it is the player's turn.
        if self.random.random_bool(0.8) && own.iter().any(|game| game.turn_user_id == self.here.id()) {
            own.retain(|game| game.turn_user_id == self.here.id());
        }
        if own.is_empty() {
            return Ok(());
        }
        let seen = own.swap_remove(self.random.random_range(0..own.len()));
        let id = seen.game_id.clone();
        match self.random.random_range(0..100) {
            0..4 => {
                for over in self.perhaps_again(async move |player| player.resign(&id).await).await {
                    self.ledger.told(&over?);
                }
            }
            4..8 => {
                for over in self.perhaps_again(async move |player| player.cancel(&id).await).await {
                    self.ledger.told(&over?);
                }
            }
            8..12 => self.ledger.told(&self.there.get(&id).await?),
            chance => self.make_move(&seen, chance >= 20).await?,
        }
        Ok(())
    }

    /// Moves on a free cell of the game as it was seen or, if not `is_sensible`, on any cell and at
    /// a random version.
    async fn make_move(&mut self, seen: &Game, is_sensible: bool) -> Result<(), Status> {
        let latest = seen.version;
        let mut seen = seen.clone();
        let mut cell = self.random.random_range(0..9);
        if is_sensible {
            let free: Vec<usize> = seen.board.match_indices('.').map(|(cell, _)| cell).collect();
            if free.is_empty() {
                return Ok(());
            }
            cell = i32::try_from(free[self.random.random_range(0..free.len())]).expect("small");
        } else {
            seen.version = (seen.version + self.random.random_range(-2..=1)).max(1);
        }
        let asked = seen.clone();
        let answers = self
            .perhaps_again(async move |player| player.make_move(&asked, cell).await)
            .await;
        // Two identical moves are either both illegal, or every answer says that the move was made,
        // however late it comes. A move at a future version is an exception, since the first of the
        // two may come too early.
        let is_refused = |answer: &Result<Game, Status>| answer.as_ref().is_err_and(is_expected);
        let is_made = answers.iter().any(Result::is_ok);
        assert!(
            seen.version > latest || !is_made || !answers.iter().any(is_refused),
            "{answers:?}"
        );
        for now in answers.iter().flatten() {
            self.ledger.moved(&self.here, &seen, cell, now);
        }
        if let Some(Err(status)) = answers.into_iter().find(Result::is_err) {
            return Err(status);
        }
        Ok(())
    }
}

#[expect(clippy::print_stdout, reason = "figures, with --nocapture")]
pub(crate) fn report(line: &str) {
    println!("{line}");
}

#[on_both_backends]
async fn concurrent_clients_always_see_the_rules_kept(database: TestDatabase) {
    let rounds = rounds("MODEL_ROUNDS", 3);
    let server = Server::start_with(database, &["--turn-seconds", "60", "--open-game-seconds", "60"]).await;
    let replica = server.replica().await;
    let ledger = Arc::new(Ledger::default());
    let players: Vec<Player> = (0..PLAYERS)
        .map(|index| server.player(&format!("player{index}")))
        .collect();
    for _ in 0..rounds {
        let seed: u64 = rand::random();
        let mut clients = tokio::task::JoinSet::new();
        for index in 0..CLIENTS {
            let (mut here, mut there) = (players[index % PLAYERS].clone(), players[index % PLAYERS].at(&replica));
            if index % 2 == 1 {
                std::mem::swap(&mut here, &mut there);
            }
            let mut client = Client {
                here,
                there,
                random: StdRng::seed_from_u64(seed ^ index as u64),
                ledger: Arc::clone(&ledger),
            };
            let clock = server.clock.clone();
            clients.spawn(async move {
                for step in 0..STEPS {
                    client.step().await.expect("an answer that is to be expected");
                    // Time passes now and then, and sometimes so much that turns and waiting games
                    // run out.
                    if step % 10 == index {
                        clock.advance(Duration::from_secs(if client.random.random_bool(0.2) { 90 } else { 1 }));
                    }
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended.expect("a client to the end");
        }
    }
    // Nothing changes any more once every unfinished game has run out of time.
    server.clock.advance(Duration::from_secs(90));
    for player in &players {
        for game in player.my_games(100, "").await.expect("a page").games {
            // A request that touches the game ends it.
            let refused = player.resign(&game.game_id).await.expect_err("its time has run out");
            assert!(is_expected(&refused), "{refused}");
        }
    }
    let counted = ledger.verify(&players).await;
    report(&format!(
        "{:?}: {} games were reported to clients, and {counted} count",
        server.database.backend(),
        ledger.games().len()
    ));
    assert!(counted > 0, "no game came to an end that counts");
    for player in &players {
        assert_eq!(player.my_games(0, "").await.expect("a page").games, []);
    }
    has_no_drift(server.database.url());
}
