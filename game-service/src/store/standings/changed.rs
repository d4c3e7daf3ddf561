//! Text of the query for the changes since a horizon.
//!
//! Each row of a changed player repeats the new horizon. If no player has changed, a single row
//! holds the horizon alone. A player whose statistics were deleted has none here; their deletion
//! left its mark on the row of `players`.
//!
//! Nearly every answer of the leaderboard runs this query, and most find no change. That decides
//! its form:
//!
//! - Comments are outside of the text. A connection finds a prepared statement by its whole text,
//!   which it hashes each time.
//! - Requested logins take a statement of their own, which is longer. Without them, this one
//!   neither parses a list nor looks for anything.
//! - The revisions are found by their indexes, and the rows by their ids.
//!
//! PostgreSQL is kept from planning anew at each execution, which takes several times as long as
//! the query itself. It does so when the plan for the given values seems cheaper than the generic
//! one. Values inside a SELECT of their own, and an upper bound on the range, make both cost the
//! same.

/// Columns of the horizon on SQLite.
macro_rules! sqlite_horizon {
    () => {
        "'' AS database, CAST((SELECT value - 1 FROM next_revision) AS TEXT) AS seen"
    };
}

/// Columns of the horizon on PostgreSQL.
macro_rules! postgres_horizon {
    () => {
        "CAST(pg_postmaster_start_time() AS text) || ' ' || pg_relation_filenode('player_stats') AS database, \
         CAST(pg_current_snapshot() AS text) AS seen"
    };
}

/// Columns of a changed player.
macro_rules! player {
    () => {
        ", players.id AS user_id, players.login AS login, player_stats.wins AS wins, player_stats.losses AS losses, \
         player_stats.draws AS draws, player_stats.last_finish_time AS last_finish_time \
         FROM (SELECT 1) AS horizon LEFT JOIN players ON players.id "
    };
}

/// Players who changed after the revision `?1`, at most `?2` of each table.
macro_rules! sqlite_changed {
    () => {
        concat!(
            "SELECT ",
            sqlite_horizon!(),
            player!(),
            "IN (SELECT user_id FROM \
             (SELECT user_id FROM player_stats WHERE revision > CAST(?1 AS INTEGER) ORDER BY revision LIMIT ?2) \
             UNION ALL SELECT id FROM \
             (SELECT id FROM players WHERE revision > CAST(?1 AS INTEGER) ORDER BY revision LIMIT ?2)) \
             LEFT JOIN player_stats ON player_stats.user_id = players.id"
        )
    };
}

/// Condition that the transaction of a change is not in the snapshot `$1`.
macro_rules! is_unseen {
    () => {
        " WHERE revision >= (SELECT pg_snapshot_xmin(CAST($1 AS pg_snapshot))) \
         AND revision <= (SELECT CAST('18446744073709551615' AS xid8)) \
         AND NOT pg_visible_in_snapshot(revision, (SELECT CAST($1 AS pg_snapshot))) \
         ORDER BY revision LIMIT (SELECT $2)"
    };
}

/// Players whom a transaction changed that is not in the snapshot `$1`, at most `$2` of each table.
macro_rules! postgres_changed {
    () => {
        concat!(
            "SELECT ",
            postgres_horizon!(),
            player!(),
            "= ANY (ARRAY(SELECT user_id FROM (SELECT user_id FROM player_stats",
            is_unseen!(),
            ") AS changed UNION ALL SELECT id FROM (SELECT id FROM players",
            is_unseen!(),
            ") AS changed)) LEFT JOIN player_stats ON player_stats.user_id = players.id"
        )
    };
}

/// Rows of requested logins, which have no horizon.
macro_rules! logins {
    () => {
        " UNION ALL SELECT NULL, NULL, id, login, NULL, NULL, NULL, NULL FROM players WHERE id "
    };
}

pub(super) const SQLITE_HORIZON: &str = concat!("SELECT ", sqlite_horizon!());
pub(super) const POSTGRES_HORIZON: &str = concat!("SELECT ", postgres_horizon!());

pub(super) const SQLITE_CHANGED: &str = sqlite_changed!();
pub(super) const POSTGRES_CHANGED: &str = postgres_changed!();

/// The same, and the logins of the players `?3`.
pub(super) const SQLITE_CHANGED_AND_LOGINS: &str = concat!(
    sqlite_changed!(),
    logins!(),
    "IN (SELECT unhex(value) FROM json_each(?3))"
);
/// The same, and the logins of the players `$3`.
pub(super) const POSTGRES_CHANGED_AND_LOGINS: &str =
    concat!(postgres_changed!(), logins!(), "= ANY (CAST((SELECT $3) AS uuid[]))");
