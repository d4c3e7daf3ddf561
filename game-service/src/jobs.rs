//! Background jobs of game-service.

use std::time::Duration;

use access::{feed::NameChanges, view::FeedPosition};
use base::running::Running;
use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use crate::domain::{Games, Leaderboard, Names};

/// Interval at which the service looks for games whose time has run out.
const OVERDUE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which the leaderboard in memory is updated even without requests. A request then
/// finds little to catch up on.
const CATCH_UP_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which the results that replicas of the previous version write are checked.
const OLDER_RESULTS_INTERVAL: Duration = Duration::from_secs(1);
/// Pause between two batches of games whose moves are migrated, so that players do not notice.
const TAKE_OVER_PAUSE: Duration = Duration::from_secs(1);
/// Pause before a failed change from the feed is retried.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Starts the jobs that wake the watchers of games, end overdue games and keep the leaderboard in
/// memory up to date. They end with the service.
pub(crate) fn spawn(games: &Games, leaderboard: &Leaderboard, running: &Running) {
    running.follow("watched games", games.watchers.clone().wake(games.db.clone()));
    let (games, take_over, older) = (games.clone(), games.clone(), games.clone());
    running.every(OVERDUE_INTERVAL, "overdue games", move || {
        let games = games.clone();
        async move { games.end_all_overdue().await }.boxed()
    });
    running.follow(
        "moves that the previous version stored",
        take_over.take_over_moves(TAKE_OVER_PAUSE),
    );
    running.every(OLDER_RESULTS_INTERVAL, "results of the previous version", move || {
        let games = older.clone();
        async move { games.settle_older_results().await }.boxed()
    });
    let leaderboard = leaderboard.clone();
    running.every(CATCH_UP_INTERVAL, "leaderboard", move || {
        let leaderboard = leaderboard.clone();
        async move { leaderboard.catch_up().await }.boxed()
    });
}

/// Starts the job that applies the renames and deletions of users after this feed position.
pub(crate) fn follow_names(
    games: &Games,
    after: Option<FeedPosition>,
    changes: mpsc::UnboundedReceiver<NameChanges>,
    running: &Running,
) {
    let names = Names { games: games.clone() };
    running.follow("names of players", names.follow(after, changes, RETRY_PAUSE));
}
