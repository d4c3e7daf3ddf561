//! A record of everything that clients were told, and checks that the service keeps to it.
//!
//! The rules are implemented here a second time, independently. A game's moves and its end
//! determine its board, its state and its version, and every earlier state that a client was told.
//! All games together determine every player's history and the leaderboard.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use parking_lot::Mutex;
use proto::game::v1::{EndReason, Game, GameState, GetLeaderboardRequest, LeaderboardEntry, Mark, Opponent};

use crate::support::Player;

const LINES: [[usize; 3]; 8] = [
    [0, 1, 2],
    [3, 4, 5],
    [6, 7, 8],
    [0, 3, 6],
    [1, 4, 7],
    [2, 5, 8],
    [0, 4, 8],
    [2, 4, 6],
];

/// Everything that any client was told, by either replica.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Told>);

#[derive(Default)]
struct Told {
    /// Every state of every game that a client was told, by game id.
    states: BTreeMap<String, Vec<Game>>,
    /// Acknowledged moves: the game, the version that the player had seen, the player and the cell.
    moves: Vec<(String, i64, String, i32)>,
    /// The game that each request id has created.
    created: BTreeMap<String, String>,
}

/// Result of a game that counts.
struct Counted {
    x: String,
    o: String,
    winner: Option<Mark>,
    finish_time: (i64, i32),
}

impl Ledger {
    /// Records a state that a client was told.
    pub(crate) fn told(&self, game: &Game) {
        let mut told = self.0.lock();
        told.states.entry(game.game_id.clone()).or_default().push(game.clone());
    }

    /// Records a move that was acknowledged to a client.
    pub(crate) fn moved(&self, player: &Player, seen: &Game, cell: i32, now: &Game) {
        self.told(now);
        let mut told = self.0.lock();
        told.moves.push((seen.game_id.clone(), seen.version, player.id(), cell));
    }

    /// Records that this request id has created this game. Panics if it has also created another
    /// one.
    pub(crate) fn created(&self, request_id: &str, game: &Game) {
        self.told(game);
        let mut told = self.0.lock();
        let made = told
            .created
            .entry(request_id.to_owned())
            .or_insert_with(|| game.game_id.clone());
        assert_eq!(*made, game.game_id, "one request has made two games");
    }

    /// Returns the ids of all games that any client was told of.
    pub(crate) fn games(&self) -> Vec<String> {
        let told = self.0.lock();
        told.states.keys().cloned().collect()
    }

    /// Asserts that the service agrees with everything that clients were told. Returns the number
    /// of games that have ended and count.
    pub(crate) async fn verify(&self, players: &[Player]) -> usize {
        let mut games = BTreeMap::new();
        for id in self.games() {
            for player in players {
                if let Ok(game) = player.get(&id).await {
                    games.insert(id, game);
                    break;
                }
            }
        }
        // A game counts even if every response that mentioned it was lost.
        for player in players {
            for game in history(player).await {
                games.entry(game.game_id.clone()).or_insert(game);
            }
        }
        let counted: BTreeMap<&str, Counted> = games
            .values()
            .filter_map(|game| Some((game.game_id.as_str(), legal(game)?)))
            .collect();
        self.keeps_to_what_was_told(&games);
        let mut stats: BTreeMap<String, (i64, i64, i64, (i64, i32))> = BTreeMap::new();
        for player in players {
            let mut own: Vec<_> = counted
                .iter()
                .filter(|(_, game)| [&game.x, &game.o].contains(&&player.id()))
                .collect();
            own.sort_by_key(|(id, game)| std::cmp::Reverse((game.finish_time, id.to_string())));
            let own: Vec<&str> = own.into_iter().map(|(id, _)| *id).collect();
            let listed = history(player).await;
            assert_eq!(listed.iter().map(|game| game.game_id.as_str()).collect::<Vec<_>>(), own);
            for game in &listed {
                assert_eq!(Some(game), games.get(&game.game_id));
            }
        }
        for game in counted.values() {
            for (user, mark) in [(&game.x, Mark::X), (&game.o, Mark::O)]
                .into_iter()
                .filter(|(user, _)| !user.is_empty())
            {
                let sum = stats.entry(user.clone()).or_default();
                match game.winner {
                    None => sum.2 += 1,
                    Some(winner) if winner == mark => sum.0 += 1,
                    Some(_) => sum.1 += 1,
                }
                sum.3 = sum.3.max(game.finish_time);
            }
        }
        leaderboard_is(players, stats).await;
        counted.len()
    }

    fn keeps_to_what_was_told(&self, games: &BTreeMap<String, Game>) {
        let told = self.0.lock();
        for (id, states) in &told.states {
            let game = games
                .get(id)
                .unwrap_or_else(|| panic!("game {id} is gone, of which {states:?} was told"));
            for state in states {
                was(game, state);
            }
        }
        for (id, seen, player, cell) in &told.moves {
            let made = &games[id].moves[usize::try_from(seen - base(&games[id])).expect("after the beginning")];
            assert_eq!(
                (&made.user_id, made.cell()),
                (player, *cell),
                "a move that was acknowledged is not there"
            );
        }
    }
}

/// Asserts that the leaderboard has no drift, by running `recompute-leaderboard --check`.
pub(crate) fn has_no_drift(database_url: &str) {
    let mut check = Command::new(env!("CARGO_BIN_EXE_game-service"));
    check.args(["recompute-leaderboard", "--check", "--database-url", database_url]);
    let checked = check.output().expect("run the program");
    assert!(checked.status.success(), "{checked:?}");
}

async fn history(player: &Player) -> Vec<Game> {
    let (mut games, mut token) = (Vec::new(), String::new());
    loop {
        let page = player.finished_games(7, &token).await.expect("a page");
        games.extend(page.games);
        token = page.next_page_token;
        if token.is_empty() {
            return games;
        }
    }
}

/// Returns the version before the first move.
fn base(game: &Game) -> i64 {
    match game.opponent() {
        Opponent::Computer => 1,
        _ => 2,
    }
}

/// Replays a game from its first move and asserts that the rest of it follows from its moves.
/// Returns the result if the game counts.
fn legal(game: &Game) -> Option<Counted> {
    let mut board = ['.'; 9];
    let mut outcome = (GameState::Turn, None);
    for (index, made) in game.moves.iter().enumerate() {
        assert_eq!(outcome.0, GameState::Turn, "a move after the end: {game:?}");
        let (mark, user, character) = if index % 2 == 0 {
            (Mark::X, &game.x_user_id, 'X')
        } else {
            (Mark::O, &game.o_user_id, 'O')
        };
        let cell = usize::try_from(made.cell()).expect("on the board");
        assert_eq!((made.mark(), &made.user_id, board[cell]), (mark, user, '.'), "{game:?}");
        board[cell] = character;
        if LINES
            .iter()
            .any(|line| line.iter().all(|cell| board[*cell] == character))
        {
            outcome = (GameState::Won, Some(mark));
        } else if index == 8 {
            outcome = (GameState::Draw, None);
        }
    }
    assert_eq!(game.board, board.iter().collect::<String>());
    let is_joined = game.opponent() == Opponent::Computer || (!game.x_user_id.is_empty() && !game.o_user_id.is_empty());
    let moves = i64::try_from(game.moves.len()).expect("nine");
    let by_moves = if is_joined { base(game) + moves } else { 1 };
    let of_mark = |mark| {
        if mark == Mark::X {
            game.x_user_id.clone()
        } else {
            game.o_user_id.clone()
        }
    };
    let is_over = game.finish_time.is_some();
    if outcome.0 == GameState::Turn && is_over {
        // The game was ended by something other than a move.
        assert_eq!(game.version, by_moves + 1, "{game:?}");
        let (state, ends) = match (is_joined, moves) {
            (false, _) => (GameState::Cancelled, [EndReason::Cancellation, EndReason::Expiry]),
            (true, ..2) => (GameState::Cancelled, [EndReason::Resignation, EndReason::Timeout]),
            (true, _) => (GameState::Won, [EndReason::Resignation, EndReason::Timeout]),
        };
        assert!(game.state() == state && ends.contains(&game.end_reason()), "{game:?}");
        outcome = (state, None);
        if state == GameState::Won {
            outcome.1 = Some(game.winner_mark());
            let next = if moves % 2 == 0 { Mark::X } else { Mark::O };
            let lost_its_turn = game.end_reason() == EndReason::Timeout && game.winner_mark() == next;
            assert!(!lost_its_turn, "who had the turn has lost: {game:?}");
        }
    } else {
        assert_eq!(game.version, by_moves, "{game:?}");
        let end = match outcome.0 {
            GameState::Won => EndReason::Line,
            GameState::Draw => EndReason::FullBoard,
            _ => EndReason::Unspecified,
        };
        if !is_joined {
            outcome.0 = GameState::WaitingForPlayer;
        }
        assert_eq!((game.state(), game.end_reason()), (outcome.0, end), "{game:?}");
    }
    let turn = match (game.state(), moves % 2) {
        (GameState::Turn, 0) => game.x_user_id.clone(),
        (GameState::Turn, _) => game.o_user_id.clone(),
        _ => String::new(),
    };
    assert_eq!(game.turn_user_id, turn);
    let winner = outcome.1.map(of_mark).unwrap_or_default();
    assert_eq!(game.winner_user_id, winner, "{game:?}");
    assert_eq!(game.expire_time.is_none(), is_over, "{game:?}");
    assert_eq!(
        is_over,
        !matches!(game.state(), GameState::Turn | GameState::WaitingForPlayer)
    );
    assert_eq!(game.last_move_time, game.moves.last().and_then(|made| made.create_time));
    let time = game.finish_time?;
    (game.state() != GameState::Cancelled).then(|| Counted {
        x: game.x_user_id.clone(),
        o: game.o_user_id.clone(),
        winner: outcome.1,
        finish_time: (time.seconds, time.nanos),
    })
}

/// Asserts that the game was once in this state.
fn was(game: &Game, state: &Game) {
    assert!(state.version <= game.version, "{state:?} came back from {game:?}");
    legal(state);
    if state.version == game.version {
        assert_eq!(state, game);
        return;
    }
    assert!(state.finish_time.is_none(), "{state:?} was over, and became {game:?}");
    let moves = usize::try_from((state.version - base(game)).max(0)).expect("not negative");
    assert_eq!(state.moves[..], game.moves[..moves], "{state:?} became {game:?}");
    for (before, now) in [(&state.x_user_id, &game.x_user_id), (&state.o_user_id, &game.o_user_id)] {
        assert!(before.is_empty() || before == now, "{state:?} became {game:?}");
    }
    assert_eq!((&state.create_time, state.opponent), (&game.create_time, game.opponent));
}

/// Asserts that the leaderboard, and every player's place on it, follows from the games.
async fn leaderboard_is(players: &[Player], stats: BTreeMap<String, (i64, i64, i64, (i64, i32))>) {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let ratio = |(wins, losses, draws, _): &(i64, i64, i64, _)| *wins as f64 / (losses + draws).max(1) as f64;
    let mut expected: Vec<_> = stats.into_iter().collect();
    expected.sort_by(|(one, of_one), (other, of_other)| {
        let by_ratio = ratio(of_other).total_cmp(&ratio(of_one));
        by_ratio
            .then(of_other.0.cmp(&of_one.0))
            .then(of_one.3.cmp(&of_other.3))
            .then(one.cmp(other))
    });
    let request = players[0].ask(GetLeaderboardRequest { limit: 1000 });
    let listed = players[0]
        .leaderboards()
        .get_leaderboard(request)
        .await
        .expect("the leaderboard")
        .into_inner()
        .entries;
    let mut ranks: Vec<i64> = Vec::new();
    for (place, (_, stats)) in expected.iter().enumerate() {
        let shares = place.checked_sub(1).filter(|above| {
            let above = &expected[*above].1;
            ratio(above).total_cmp(&ratio(stats)).is_eq() && above.0 == stats.0
        });
        ranks.push(shares.map_or_else(|| i64::try_from(place).expect("small") + 1, |above| ranks[above]));
    }
    let of = |entry: &LeaderboardEntry| (entry.rank, entry.user_id.clone(), entry.wins, entry.losses, entry.draws);
    let lines = ranks
        .iter()
        .zip(&expected)
        .map(|(rank, (user, sum))| (*rank, user.clone(), sum.0, sum.1, sum.2));
    assert_eq!(listed.iter().map(of).collect::<Vec<_>>(), lines.collect::<Vec<_>>());
    let known: BTreeSet<&str> = listed.iter().map(|entry| entry.user_id.as_str()).collect();
    for player in players.iter().filter(|player| known.contains(player.id().as_str())) {
        let own = listed
            .iter()
            .position(|entry| entry.user_id == player.id())
            .expect("an entry");
        assert_eq!(
            player.rank("").await.expect("a rank").entry.as_ref(),
            Some(&listed[own])
        );
        let around = player.around("", 100).await.expect("a part");
        assert!(around.contains(&listed[own]));
        assert!(around.iter().all(|entry| listed.contains(entry)));
    }
}
