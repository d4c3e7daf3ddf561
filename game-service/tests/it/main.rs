//! game-service as its clients see it, on both databases.
#![allow(clippy::too_many_lines, reason = "a test tells one story, in order")]

mod access;
mod contract;
mod crashes;
mod ends;
mod full_disk;
mod groups;
mod guests;
mod history;
mod interleavings;
mod leaderboard;
mod model;
mod names;
mod open_games;
mod overdue;
mod play;
mod races;
mod support;
mod watch;

use game_service::MIGRATIONS;
