//! Standings of all players, read in the order in which they are stored.
//!
//! This exists for speed. In the order of the ids, each row would be at a random place of the
//! table. The rows are read in parts, because a single statement for many millions of players would
//! exceed the time limit of statements.

use base::{clock::Timestamp, ids::UserId, sql_types};
use db::{Backend, Snapshot, prelude::*, prepared};
use diesel::sql_types::{BigInt, Text};
use futures_util::TryStreamExt as _;

use super::standing;
use crate::ranks::Standing;

/// Number of rows that are read at a time on SQLite. Tests read in several parts.
const ROWS: i64 = if cfg!(test) { 99 } else { 20_000 };
/// Number of pages that are read at a time on PostgreSQL, each with about 90 rows.
const PAGES: i64 = if cfg!(test) { 2 } else { 2_000 };
/// A page after the last one that a table can have.
const LAST_PAGE: i64 = 0xFFFF_FFFE;

type Row = (UserId, i64, i64, i64, Timestamp);

/// Calls `take` with the standing of each player who has one, in no particular order.
pub(crate) async fn standings_scan(
    snapshot: &mut Snapshot,
    mut take: impl FnMut(UserId, Standing) + Send,
) -> db::Result<()> {
    let take = |(id, wins, losses, draws, last_finish_time): Row| {
        take(id, standing([wins, losses, draws], last_finish_time));
    };
    let conn = snapshot.conn();
    match conn.backend() {
        Backend::Sqlite => scan_rows(conn, take).await,
        Backend::Postgres => scan_pages(conn, take).await,
    }
}

async fn scan_rows(conn: &mut Conn, mut take: impl FnMut(Row) + Send) -> db::Result<()> {
    type Numbered = (BigInt, sql_types::Uuid, BigInt, BigInt, BigInt, sql_types::Timestamp);
    let mut after = i64::MIN;
    loop {
        let rows = prepared::<Numbered>(
            "SELECT rowid, user_id, wins, losses, draws, last_finish_time FROM player_stats WHERE rowid > ",
        );
        let rows = rows
            .bind::<BigInt, _>(after)
            .text(" ORDER BY rowid LIMIT ")
            .bind::<BigInt, _>(ROWS);
        let rows: Vec<(i64, UserId, i64, i64, i64, Timestamp)> = query!(conn, |c| rows.load(c).await)?;
        let Some((last, ..)) = rows.last() else { return Ok(()) };
        after = *last;
        for (_, id, wins, losses, draws, last_finish_time) in rows {
            take((id, wins, losses, draws, last_finish_time));
        }
    }
}

async fn scan_pages(conn: &mut Conn, mut take: impl FnMut(Row) + Send) -> db::Result<()> {
    type Columns = (sql_types::Uuid, BigInt, BigInt, BigInt, sql_types::Timestamp);
    let pages =
        prepared::<BigInt>("SELECT pg_relation_size('player_stats') / CAST(current_setting('block_size') AS bigint)");
    let pages: i64 = query!(conn, |c| pages.get_result(c).await)?;
    let mut first = 0;
    while first < LAST_PAGE {
        // The last part has no end, so that the size does not have to be right.
        let next = if first + PAGES < pages {
            first + PAGES
        } else {
            LAST_PAGE
        };
        let rows = prepared::<Columns>(
            "SELECT user_id, wins, losses, draws, last_finish_time FROM player_stats WHERE ctid >= CAST(CAST(",
        );
        let rows = rows
            .bind::<Text, _>(format!("({first},0)"))
            .text(" AS text) AS tid) AND ctid < CAST(CAST(")
            .bind::<Text, _>(format!("({next},0)"))
            .text(" AS text) AS tid)");
        query!(conn, |c| {
            let mut rows = rows.load_stream::<Row>(c).await?;
            while let Some(row) = rows.try_next().await? {
                take(row);
            }
            Ok(())
        })?;
        first = next;
    }
    Ok(())
}
