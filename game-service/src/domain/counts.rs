//! Metrics about games. A new game is counted before its transaction commits, so one whose commit
//! fails is counted too.

use base::telemetry::metrics::InFlight;
use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::{Game, Opponent};

const CREATED: &str = "games_created_total";
const FINISHED: &str = "games_finished_total";
const MOVES: &str = "games_moves_total";
const WATCHERS: &str = "games_watchers";

/// Registers the descriptions of the metrics.
pub(crate) fn describe() {
    describe_counter!(
        CREATED,
        "Number of games that were created, by `opponent` (computer or player)."
    );
    describe_counter!(
        FINISHED,
        "Number of games that ended, by `opponent` (computer or player) and `end_reason`."
    );
    describe_counter!(
        MOVES,
        "Number of moves that were made, including those of the computer."
    );
    describe_gauge!(WATCHERS, "Number of game streams that this process serves.");
    gauge!(WATCHERS).increment(0.0);
}

pub(super) fn created(game: &Game) {
    counter!(CREATED, "opponent" => opponent(game)).increment(1);
}

pub(super) fn finished(game: &Game) {
    let reason = game.end.map_or("unknown", |end| end.as_str());
    counter!(FINISHED, "opponent" => opponent(game), "end_reason" => reason).increment(1);
}

pub(super) fn moved(count: usize) {
    counter!(MOVES).increment(u64::try_from(count).unwrap_or(u64::MAX));
}

pub(super) fn watcher() -> InFlight {
    InFlight::new(gauge!(WATCHERS))
}

const fn opponent(game: &Game) -> &'static str {
    match game.opponent {
        Opponent::Computer => "computer",
        Opponent::Player => "player",
    }
}
