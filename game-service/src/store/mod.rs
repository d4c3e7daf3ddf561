//! SQL: one file a table, every query written once for both backends.

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
    game::{
        GameRow, GameUpdate, MoveRow, game_by_id, game_by_request, game_insert, game_lock, game_update, games_by_ids,
        games_running, games_waiting, moves_by_game, moves_by_games, moves_insert,
    },
    history::{ResultRow, results_insert, results_list},
    leaderboard::{RankedRow, StatsRow, leaderboard_top, stats_lock, stats_update},
    player::{player_lock, player_upsert, players_by_ids},
};

/// The migrations of game-service's database.
pub static MIGRATIONS: Migrations = Migrations {
    sqlite: embed_migrations!("migrations/sqlite"),
    postgres: embed_migrations!("migrations/postgres"),
};
