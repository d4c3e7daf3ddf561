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
    describe_counter!(CREATED, "Games that were created, by opponent.");
    describe_counter!(FINISHED, "Games that ended, by opponent and reason.");
    describe_counter!(MOVES, "Moves that were made, the computer's too.");
    describe_gauge!(WATCHERS, "Streams of games that this process serves.");
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
