//! Many games at once at two replicas. Each replica writes moves, new games, joins and ends in
//! groups, and the groups of both meet on the same players.

use std::sync::Arc;

use db::Backend;
use diesel_async::RunQueryDsl as _;
use futures_util::future::join_all;
use proto::game::v1::{GameState, Mark, Opponent};
use testing::{TestDatabase, on_both_backends};

use crate::{
    model::{Ledger, has_no_drift},
    support::{Player, Server},
};

const PLAYERS: usize = 12;
const GAMES: usize = 96;
const DRAW: [i32; 9] = [0, 1, 2, 4, 3, 5, 7, 6, 8];
const X_WINS: [i32; 5] = [0, 3, 1, 4, 2];

/// Two players of one game, each at both replicas.
struct Pair {
    x: [Player; 2],
    o: [Player; 2],
    /// Replica of the first call. Each further call goes to the other one.
    replica: usize,
    ledger: Arc<Ledger>,
}

impl Pair {
    /// Plays a game to its end, and returns its last state. Every call must succeed, because nobody
    /// else plays it.
    async fn play(mut self, cells: &[i32]) -> GameState {
        let at = self.next();
        let mut game = self.x[at].create(Opponent::Player, Mark::X).await.expect("created");
        self.ledger.told(&game);
        let at = self.next();
        game = self.o[at].join(&game.game_id).await.expect("joined");
        self.ledger.told(&game);
        for (number, cell) in cells.iter().enumerate() {
            let at = self.next();
            let player = if number % 2 == 0 { &self.x[at] } else { &self.o[at] };
            let now = player.make_move(&game, *cell).await.expect("a legal move");
            self.ledger.moved(player, &game, *cell, &now);
            game = now;
        }
        if game.finish_time.is_none() {
            let at = self.next();
            game = self.o[at].resign(&game.game_id).await.expect("resigned");
            self.ledger.told(&game);
        }
        game.state()
    }

    const fn next(&mut self) -> usize {
        self.replica = 1 - self.replica;
        self.replica
    }
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

/// Counts the transactions on PostgreSQL that ended more than one game.
async fn groups_of_ends(server: &Server) -> i64 {
    let sql = "SELECT count(*) AS number FROM (SELECT FROM game_results GROUP BY xmin::text \
               HAVING count(DISTINCT game_id) > 1) AS groups";
    let mut conn = server.database.db().read().await.expect("a connection");
    let counted: db::Result<Number> = db::query_postgres!(&mut conn, |c| diesel::sql_query(sql).get_result(c).await);
    counted.expect("a number").number
}

#[on_both_backends]
async fn mixed_groups_of_two_replicas_lose_and_repeat_nothing(database: TestDatabase) {
    let server = Server::start_with(database, &["--max-running-games", "100"]).await;
    let replica = server.replica().await;
    let ledger = Arc::new(Ledger::default());
    let players: Vec<Player> = (0..PLAYERS)
        .map(|number| server.player(&format!("player{number}")))
        .collect();
    let elsewhere: Vec<Player> = players.iter().map(|player| player.at(&replica)).collect();
    let at_both = |number: usize| {
        let player = number % PLAYERS;
        [players[player].clone(), elsewhere[player].clone()]
    };
    // Every player is in many games, so that games that end at once count for the same players.
    let games = (0..GAMES).map(|number| {
        let pair = Pair {
            x: at_both(number),
            o: at_both(number + 1 + number / PLAYERS % (PLAYERS - 1)),
            replica: number % 2,
            ledger: Arc::clone(&ledger),
        };
        // Games of different lengths, so that some begin while others go on or end.
        match number % 3 {
            0 => pair.play(&X_WINS),
            1 => pair.play(&DRAW),
            _ => pair.play(&X_WINS[..2]),
        }
    });
    let ended = join_all(games).await;
    for (number, state) in ended.into_iter().enumerate() {
        let expected = if number % 3 == 1 {
            GameState::Draw
        } else {
            GameState::Won
        };
        assert_eq!(state, expected, "{number}");
    }
    assert_eq!(ledger.verify(&players).await, GAMES);
    has_no_drift(server.database.url());
    if server.database.backend() == Backend::Postgres {
        assert!(
            groups_of_ends(&server).await > 0,
            "no two games ended in one transaction"
        );
    }
}
