//! What game-service does by itself.

use std::time::Duration;

use access::{feed::NameChanges, view::FeedPosition};
use base::running::Running;
use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use crate::domain::{Games, Leaderboard, Names};

/// Games whose time has run out are looked for this often.
const OVERDUE: Duration = Duration::from_secs(1);
/// The leaderboard in memory follows the database this often where nobody asks for it, so that
/// whoever does finds little to catch up on.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Before what the feed has said is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Starts what ends games whose time has run out, what wakes those who watch a game, and what keeps
/// the leaderboard in memory. They end with the service.
pub(crate) fn spawn(games: &Games, leaderboard: &Leaderboard, running: &Running) {
    running.follow("watched games", games.watchers.clone().wake(games.db.clone()));
    let games = games.clone();
    running.every(OVERDUE, "overdue games", move || {
        let games = games.clone();
        async move { games.end_all_overdue().await }.boxed()
    });
    let leaderboard = leaderboard.clone();
    running.every(CATCH_UP, "leaderboard", move || {
        let leaderboard = leaderboard.clone();
        async move { leaderboard.catch_up().await }.boxed()
    });
}

/// Starts what takes in the renames and deletions of users after this position.
pub(crate) fn follow_names(
    games: &Games,
    after: Option<FeedPosition>,
    changes: mpsc::UnboundedReceiver<NameChanges>,
    running: &Running,
) {
    let names = Names { games: games.clone() };
    running.follow("names of players", names.follow(after, changes, RETRY));
}
