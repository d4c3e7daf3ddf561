//! SQL: one file a table, every query written once for both backends.

mod feed_cursor;
mod game;
mod history;
mod leaderboard;
mod player;
mod schema;
#[cfg(test)]
mod tests;

use diesel_migrations::embed_migrations;
use shared::db::Migrations;

pub(crate) use self::{
    feed_cursor::{feed_cursor_get, feed_cursor_set},
    game::{
        GameRow, GameUpdate, MoveRow, game_by_id, game_by_request, game_insert, game_lock, game_update, games_by_ids,
        games_overdue, games_running, games_waiting, moves_by_game, moves_by_games, moves_insert,
    },
    history::{ResultFilter, ResultRow, results_against, results_insert, results_list},
    leaderboard::{
        GroupRow, RankedRow, Side, StatsRow, group_add, group_sizes, group_take, leaderboard_next_to,
        leaderboard_place, leaderboard_prepare, leaderboard_top, stats_add,
    },
    player::{player_delete, player_insert, player_lock, player_rename, players_by_ids},
};

/// The migrations of game-service's database.
pub static MIGRATIONS: Migrations = Migrations {
    sqlite: embed_migrations!("migrations/sqlite"),
    postgres: embed_migrations!("migrations/postgres"),
};
