//! What game-service does by itself.

use std::time::Duration;

use futures_util::FutureExt as _;
use shared::{
    feed::{NameChanges, Position},
    server::Running,
};
use tokio::sync::mpsc;

use crate::domain::{Games, Leaderboard, Names};

/// Games whose time has run out are looked for this often.
const OVERDUE: Duration = Duration::from_secs(1);
/// Groups that nobody is in any more are forgotten this often.
const CLEAN: Duration = Duration::from_mins(10);
/// Before what the feed has said is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Starts what ends games whose time has run out, what wakes those who watch a game, and what keeps the leaderboard small. They end with the
/// service.
pub(crate) fn spawn(games: &Games, leaderboard: &Leaderboard, running: &Running) {
    running.follow("watched games", games.watchers.clone().wake(games.db.clone()));
    let games = games.clone();
    running.every(OVERDUE, "overdue games", move || {
        let games = games.clone();
        async move { games.end_all_overdue().await }.boxed()
    });
    let leaderboard = leaderboard.clone();
    running.every(CLEAN, "empty groups", move || {
        let leaderboard = leaderboard.clone();
        async move { leaderboard.clean().await }.boxed()
    });
}

/// Starts what takes in the renames and deletions of users after this position.
pub(crate) fn follow_names(
    games: &Games,
    after: Option<Position>,
    changes: mpsc::UnboundedReceiver<NameChanges>,
    running: &Running,
) {
    let names = Names { games: games.clone() };
    running.follow("names of players", names.follow(after, changes, RETRY));
}
