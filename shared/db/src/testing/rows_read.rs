//! Counts the rows that statements read, which shows whether PostgreSQL planned them well.

use diesel::sql_types::{Array, BigInt, Text};
use diesel_async::RunQueryDsl as _;

use crate::{Conn, prepared, query_postgres};

/// Rows that a transaction has read from some tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsRead {
    /// Rows that were read by scanning a whole table.
    pub by_scan: i64,
    /// Rows that were found by an index, whether or not they matched all conditions.
    pub by_index: i64,
}

/// Returns the rows of these tables that the present transaction has read so far. PostgreSQL counts
/// them for each transaction; outside of one, the numbers mean nothing.
pub async fn rows_read(conn: &mut Conn, tables: &[&str]) -> RowsRead {
    let select = prepared::<(BigInt, BigInt)>(
        "SELECT coalesce(sum(seq_tup_read), 0)::bigint, coalesce(sum(idx_tup_fetch), 0)::bigint \
         FROM pg_stat_xact_user_tables WHERE relname = ANY(",
    )
    .bind::<Array<Text>, _>(tables)
    .text(")");
    let counts: crate::Result<(i64, i64)> = query_postgres!(conn, |c| select.get_result(c).await);
    let (by_scan, by_index) = counts.expect("counted");
    RowsRead { by_scan, by_index }
}
