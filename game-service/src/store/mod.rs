//! SQL, one file per table. Nearly every query is written once for both backends.

mod feed_cursor;
mod game;
mod groups;
mod history;
mod moves;
mod older_results;
mod played;
mod player;
#[cfg(test)]
mod reads;
mod recompute;
mod schema;
mod seed;
mod standings;
mod stats;
#[cfg(test)]
mod tests;

use db::Migrations;
use diesel_migrations::embed_migrations;

pub(crate) use self::{
    feed_cursor::{feed_cursor_get, feed_cursor_set},
    game::{
        GameRow, GameUpdate, game_by_request, game_insert, game_lock, game_update, game_versions, games_by_ids,
        games_due, games_postpone, games_running, games_running_count, games_waiting,
    },
    groups::{
        GameChange, games_change, games_insert_together, games_running_counts, players_lock_together,
        players_set_logins, requests_known, results_insert_together, stats_add_together, stats_lock_together,
    },
    history::{ResultFilter, ResultRow, results_against, results_insert, results_list},
    moves::{Moves, StoredMove, moves_take_over},
    older_results::{older_results_among, older_results_list, older_results_settle},
    played::{PlayedRows, ViewRequest, game_with_moves, games_with_moves},
    player::{player_delete, player_insert, player_lock, player_rename, player_upsert, players_by_ids},
    recompute::{
        counts, game_ids_after, player_ids_after, result_delete, results_by_games, results_summed, stats_by_ids,
        stats_delete, stats_lock, stats_replace,
    },
    seed::{PlayerRow, games_insert, many_results_insert, players_insert, stats_insert},
    standings::{Changes, Horizon, standings_changed, standings_horizon, standings_renew_revisions, standings_scan},
    stats::{StatsRow, stats_add},
};

/// The migrations of game-service's database.
pub static MIGRATIONS: Migrations = Migrations {
    sqlite: embed_migrations!("migrations/sqlite"),
    postgres: embed_migrations!("migrations/postgres"),
};
