//! `player_stats`: what the leaderboard is made of.

use base::{clock::Timestamp, ids::UserId, sql_types};
use db::{Backend, Raw, prelude::*, prepared};
use diesel::sql_types::{BigInt, Nullable, Text};

use super::schema::{player_stats, players};
use crate::ranks::Standing;

/// What a player's results add up to.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = player_stats, treat_none_as_default_value = false)]
pub(crate) struct StatsRow {
    pub(crate) user_id: UserId,
    pub(crate) wins: i64,
    pub(crate) losses: i64,
    pub(crate) draws: i64,
    pub(crate) last_finish_time: Timestamp,
}

/// Up to where the changes of a database are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// Identity of the database: on PostgreSQL the file of the table and the start of the server, since another server may
    /// lack what this one has.
    database: String,
    /// On SQLite the last revision, on PostgreSQL a snapshot.
    seen: String,
}

#[cfg(test)]
impl Horizon {
    pub(super) fn of_another_database(self) -> Self {
        let database = "another".to_owned();
        Self { database, ..self }
    }
}

/// A row of those who have changed: the horizon beside each, and beside nobody where nobody has.
type Changed = (
    String,
    String,
    Option<UserId>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<Timestamp>,
);
type ChangedColumns = (
    Text,
    Text,
    Nullable<sql_types::Uuid>,
    Nullable<Text>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<sql_types::Timestamp>,
);
const CHANGED: &str = ", players.id, players.login, player_stats.wins, player_stats.losses, player_stats.draws, \
    player_stats.last_finish_time FROM (SELECT 1) AS horizon LEFT JOIN players ON players.id ";
const THEIR_STATS: &str = " LEFT JOIN player_stats ON player_stats.user_id = players.id";

const SQLITE_HORIZON: &str = "'', CAST((SELECT value - 1 FROM next_revision) AS TEXT)";
const POSTGRES_HORIZON: &str = "CAST(pg_postmaster_start_time() AS text) || ' ' || pg_relation_filenode('player_stats'), \
    CAST(pg_current_snapshot() AS text)";

/// Adds what `row` holds to what the player has, who may have nothing yet. The row stays locked until the transaction ends.
pub(crate) async fn stats_add(conn: &mut Conn, row: &StatsRow) -> db::Result<()> {
    let last = prepared::<sql_types::Timestamp>(
        "CASE WHEN player_stats.last_finish_time > excluded.last_finish_time \
         THEN player_stats.last_finish_time ELSE excluded.last_finish_time END",
    );
    query!(conn, |c| {
        diesel::insert_into(player_stats::table)
            .values(row)
            .on_conflict(player_stats::user_id)
            .do_update()
            .set((
                player_stats::wins.eq(player_stats::wins + excluded(player_stats::wins)),
                player_stats::losses.eq(player_stats::losses + excluded(player_stats::losses)),
                player_stats::draws.eq(player_stats::draws + excluded(player_stats::draws)),
                player_stats::last_finish_time.eq(last),
            ))
            .cached()
            .execute(c)
            .await
    })
    .map(|_| ())
}

/// Up to where whoever reads from now on sees the changes.
pub(crate) async fn standings_horizon(conn: &mut Conn) -> db::Result<Horizon> {
    let horizon = match conn.backend() {
        Backend::Sqlite => SQLITE_HORIZON,
        Backend::Postgres => POSTGRES_HORIZON,
    };
    let horizon = prepared::<(Text, Text)>("SELECT ").text(horizon);
    let (database, seen) = query!(conn, |c| horizon.get_result(c).await)?;
    Ok(Horizon { database, seen })
}

/// Changes what claims to be changed by transactions that are yet to come, as where the tables were restored from a dump of another server: each
/// would be read again and again until they have come. At most so many; says how many.
pub(crate) async fn standings_settle(conn: &mut Conn, limit: i64) -> db::Result<usize> {
    if conn.backend() == Backend::Sqlite {
        return Ok(0);
    }
    let mut settled = 0;
    for (table, id) in [("player_stats", "user_id"), ("players", "id")] {
        let settle = prepared::<()>("UPDATE ")
            .text(table)
            .text(" SET revision = pg_current_xact_id() WHERE ");
        let settle = settle
            .text(id)
            .text(" = ANY (ARRAY(SELECT ")
            .text(id)
            .text(" FROM ")
            .text(table)
            .text(" WHERE revision >= pg_snapshot_xmax(pg_current_snapshot()) ORDER BY revision LIMIT ");
        let settle = settle.bind::<BigInt, _>(limit).text("))");
        settled += query!(conn, |c| settle.execute(c).await)?;
    }
    Ok(settled)
}

/// Everybody who has finished a game, by id.
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
            // The second says no more than the first, which PostgreSQL would not see.
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

/// Returns the players whose stats or login have changed since that horizon, and the new horizon. A player whose stats are
/// gone has no wins, losses or draws. `None` if this is another database, or if `limit` or more players may have changed.
pub(crate) async fn standings_changed(
    conn: &mut Conn,
    since: &Horizon,
    limit: i64,
) -> db::Result<Option<(Horizon, Vec<(UserId, Standing)>)>> {
    // The ids come from the indexes of revisions and the rows from those of ids, whatever the planner thinks of how many there may be. PostgreSQL
    // plans a prepared statement anew at each execution, for several times what it takes to run, where the plan for these values seems cheaper than
    // one for any: what stands in a SELECT of its own is no value to the planner, and a range, be it without an end, few rows.
    macro_rules! changed {
        ($horizon:ident, $is_one:literal, $is_later:expr, $of_them:literal) => {{
            let ids = |column: &'static str, table: &'static str| {
                let ids = prepared::<()>("SELECT ")
                    .text(column)
                    .text(" FROM (SELECT ")
                    .text(column);
                let ids = ids.text(" FROM ").text(table).text(" WHERE ").then($is_later);
                ids.text(" ORDER BY revision LIMIT (SELECT ")
                    .bind::<BigInt, _>(limit)
                    .text(")) AS changed")
            };
            prepared::<ChangedColumns>("SELECT ")
                .text($horizon)
                .text(CHANGED)
                .text($is_one)
                .then(ids("user_id", "player_stats"))
                .text(" UNION ALL ")
                .then(ids("id", "players"))
                .text($of_them)
                .text(THEIR_STATS)
        }};
    }
    let seen = &since.seen;
    let (raw, statement) = conn.start(|| "standings_changed");
    let result: QueryResult<Vec<Changed>> = match raw {
        Raw::Sqlite(c) => {
            let is_later = || {
                prepared::<()>("revision > CAST(")
                    .bind::<Text, _>(seen)
                    .text(" AS INTEGER)")
            };
            statement
                .run(changed!(SQLITE_HORIZON, "IN (", is_later(), ")").load(c))
                .await
        }
        Raw::Postgres(c) => {
            let is_later = || {
                prepared::<()>("revision >= (SELECT pg_snapshot_xmin(CAST(")
                    .bind::<Text, _>(seen)
                    .text(
                        " AS pg_snapshot))) AND revision <= (SELECT CAST('18446744073709551615' AS xid8)) \
                           AND NOT pg_visible_in_snapshot(revision, (SELECT CAST(",
                    )
                    .bind::<Text, _>(seen)
                    .text(" AS pg_snapshot)))")
            };
            statement
                .run(changed!(POSTGRES_HORIZON, "= ANY (ARRAY(", is_later(), "))").load(c))
                .await
        }
    };
    let rows = statement.end(result)?;
    let Some((database, seen, ..)) = rows.as_slice().first() else {
        return Ok(None);
    };
    let (database, seen) = (database.clone(), seen.clone());
    let horizon = Horizon { database, seen };
    let is_all = i64::try_from(rows.len()).is_ok_and(|rows| rows < limit);
    if horizon.database != since.database || !is_all {
        return Ok(None);
    }
    let standing = |(_, _, id, login, wins, losses, draws, last): Changed| {
        let standing = Standing {
            login: login?.into(),
            wins: wins.unwrap_or(0),
            losses: losses.unwrap_or(0),
            draws: draws.unwrap_or(0),
            last_finish_time: last.unwrap_or(Timestamp::from_micros(0)),
        };
        Some((id?, standing))
    };
    Ok(Some((horizon, rows.into_iter().filter_map(standing).collect())))
}
