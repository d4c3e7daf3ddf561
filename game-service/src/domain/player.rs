//! Players, and the rules that hold for all of them.

use std::time::Duration;

use base::ids::UserId;

/// Rules of play, from the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlayRules {
    /// How long a game waits for a second player.
    pub(crate) open_for: Duration,
    /// How long a player may take for a move.
    pub(crate) turn_for: Duration,
    /// Whether the logins of players come from the access feed, and not from their tokens.
    pub(crate) logins_come_from_feed: bool,
    /// Maximum number of a player's unfinished games, including those that wait for a second
    /// player.
    pub(crate) max_running: u32,
}

/// Player, as identified by an access token.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    pub(crate) id: UserId,
    pub(crate) login: String,
    /// Whether the player is a guest.
    pub(crate) is_guest: bool,
}
