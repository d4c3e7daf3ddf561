//! Standings of all players, as the leaderboard reads them: once completely, and then only the
//! changes.
//!
//! Every change of `players` and `player_stats` carries a revision. A [`Horizon`] says up to which
//! revision the reader has seen the changes. This exists for speed. Each process keeps the
//! leaderboard in memory, and reading the changes takes a lookup in two indexes, however many
//! players there are (`cargo run --release -p bench -- leaderboard`).

use base::{clock::Timestamp, ids::UserId, sql_types};
use db::{Backend, prelude::*, prepared};
use diesel::{
    sql_query,
    sql_types::{BigInt, Nullable, Text},
};

use super::schema::{player_stats, players};
use crate::ranks::Standing;

const SQLITE_HORIZON: &str = "SELECT '', CAST((SELECT value - 1 FROM next_revision) AS TEXT)";
const POSTGRES_HORIZON: &str = "SELECT CAST(pg_postmaster_start_time() AS text) || ' ' || \
    pg_relation_filenode('player_stats'), CAST(pg_current_snapshot() AS text)";

const SQLITE_CHANGED: &str = include_str!("standings/changed.sqlite.sql");
const POSTGRES_CHANGED: &str = include_str!("standings/changed.postgres.sql");

/// Point up to which the changes in a database are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// Identity of the database, since another database may lack changes that this one has. On
    /// PostgreSQL, the start time of the server and the file of the table. Empty on SQLite, where
    /// one process serves the file.
    database: String,
    /// The last revision on SQLite, a snapshot on PostgreSQL.
    seen: String,
}

#[cfg(test)]
impl Horizon {
    pub(super) fn of_another_database(self) -> Self {
        let database = "another".to_owned();
        Self { database, ..self }
    }
}

/// Row of `standings/changed.*.sql`: the new horizon and, if any player has changed, one such
/// player.
#[derive(QueryableByName)]
struct ChangedRow {
    #[diesel(sql_type = Text)]
    database: String,
    #[diesel(sql_type = Text)]
    seen: String,
    #[diesel(sql_type = Nullable<sql_types::Uuid>)]
    user_id: Option<UserId>,
    #[diesel(sql_type = Nullable<Text>)]
    login: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    wins: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    losses: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    draws: Option<i64>,
    #[diesel(sql_type = Nullable<sql_types::Timestamp>)]
    last_finish_time: Option<Timestamp>,
}

impl ChangedRow {
    /// Returns the player's standing, if the row has a player. Missing statistics count as no
    /// games.
    fn standing(self) -> Option<(UserId, Standing)> {
        let standing = Standing {
            login: self.login?.into(),
            wins: self.wins.unwrap_or(0),
            losses: self.losses.unwrap_or(0),
            draws: self.draws.unwrap_or(0),
            last_finish_time: self.last_finish_time.unwrap_or(Timestamp::from_micros(0)),
        };
        Some((self.user_id?, standing))
    }
}

/// Returns the current horizon. Everything that is read afterwards includes the changes up to it.
pub(crate) async fn standings_horizon(conn: &mut Conn) -> db::Result<Horizon> {
    let horizon = prepared::<(Text, Text)>(match conn.backend() {
        Backend::Sqlite => SQLITE_HORIZON,
        Backend::Postgres => POSTGRES_HORIZON,
    });
    let (database, seen) = query!(conn, |c| horizon.get_result(c).await)?;
    Ok(Horizon { database, seen })
}

/// Returns up to `limit` standings of players who have finished a game, by id, from the one after
/// `after` on.
pub(crate) async fn standings_list(
    conn: &mut Conn,
    after: Option<UserId>,
    limit: i64,
) -> db::Result<Vec<(UserId, Standing)>> {
    type Row = (UserId, String, i64, i64, i64, Timestamp);
    let rows: Vec<Row> = query!(conn, |c| {
        let mut standings = player_stats::table
            .inner_join(players::table)
            .order(player_stats::user_id)
            .limit(limit)
            .select((
                player_stats::user_id,
                players::login,
                player_stats::wins,
                player_stats::losses,
                player_stats::draws,
                player_stats::last_finish_time,
            ))
            .into_boxed();
        if let Some(after) = after {
            // The second condition follows from the first, but PostgreSQL does not infer it.
            standings = standings
                .filter(player_stats::user_id.gt(after))
                .filter(players::id.gt(after));
        }
        standings.load(c).await
    })?;
    let standing = |(id, login, wins, losses, draws, last_finish_time): Row| {
        let login = login.into();
        let standing = Standing {
            login,
            wins,
            losses,
            draws,
            last_finish_time,
        };
        (id, standing)
    };
    Ok(rows.into_iter().map(standing).collect())
}

/// Returns the players whose statistics or login changed since that horizon, with their current
/// standings. Also returns the new horizon.
///
/// Returns `None` if the horizon belongs to another database, or if `limit` players or more may
/// have changed. In both cases everything has to be read again.
pub(crate) async fn standings_changed(
    conn: &mut Conn,
    since: &Horizon,
    limit: i64,
) -> db::Result<Option<(Horizon, Vec<(UserId, Standing)>)>> {
    let changed = sql_query(match conn.backend() {
        Backend::Sqlite => SQLITE_CHANGED,
        Backend::Postgres => POSTGRES_CHANGED,
    });
    let changed = changed.bind::<Text, _>(&since.seen).bind::<BigInt, _>(limit).cached();
    let mut rows: Vec<ChangedRow> = query!(conn, |c| changed.load(c).await)?;
    let Some(first) = rows.first_mut() else {
        return Ok(None);
    };
    let horizon = Horizon {
        database: std::mem::take(&mut first.database),
        seen: std::mem::take(&mut first.seen),
    };
    let is_complete = i64::try_from(rows.len()).is_ok_and(|rows| rows < limit);
    if horizon.database != since.database || !is_complete {
        return Ok(None);
    }
    let standings = rows.into_iter().filter_map(ChangedRow::standing).collect();
    Ok(Some((horizon, standings)))
}

/// Renews revisions that claim to come from future transactions, as after a restore from another
/// server's dump. Each such row would otherwise be read again and again until those transactions
/// come. Changes at most `limit` rows of each table and returns the number of changed rows.
pub(crate) async fn standings_settle(conn: &mut Conn, limit: i64) -> db::Result<usize> {
    if conn.backend() == Backend::Sqlite {
        return Ok(0);
    }
    let mut settled = 0;
    for (table, id) in [("player_stats", "user_id"), ("players", "id")] {
        let settle = sql_query(format!(
            "UPDATE {table} SET revision = pg_current_xact_id() WHERE {id} = ANY (ARRAY( \
                SELECT {id} FROM {table} WHERE revision >= pg_snapshot_xmax(pg_current_snapshot()) \
                ORDER BY revision LIMIT $1))"
        ));
        let settle = settle.bind::<BigInt, _>(limit).cached();
        settled += query!(conn, |c| settle.execute(c).await)?;
    }
    Ok(settled)
}
