//! `player_stats` and `rank_groups`.

use diesel::{dsl::sql, expression::SqlLiteral, sql_types as types};
use shared::{
    clock::Timestamp,
    db::{self, Backend, prelude::*, sql_types},
    ids::UserId,
};

use super::schema::{player_stats, players, rank_groups};

/// What a player's results add up to.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = player_stats)]
pub(crate) struct StatsRow {
    pub(crate) user_id: UserId,
    pub(crate) wins: i64,
    pub(crate) losses: i64,
    pub(crate) draws: i64,
    pub(crate) games_played: i64,
    pub(crate) win_ratio: f64,
    pub(crate) last_finish_time: Timestamp,
}

/// A player in the order of the leaderboard.
#[derive(Clone, Debug, PartialEq, Queryable)]
pub(crate) struct RankedRow {
    pub(crate) user_id: UserId,
    pub(crate) login: String,
    pub(crate) wins: i64,
    pub(crate) losses: i64,
    pub(crate) draws: i64,
    pub(crate) win_ratio: f64,
    pub(crate) last_finish_time: Timestamp,
}

/// All players with these stats: they share a rank, together with those of equal ratio and wins.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = rank_groups)]
pub(crate) struct GroupRow {
    pub(crate) win_ratio: f64,
    pub(crate) wins: i64,
    pub(crate) games_played: i64,
    pub(crate) players: i64,
}

/// Which neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Above,
    Below,
}

/// The order of the leaderboard.
macro_rules! best_first {
    () => {
        (
            player_stats::win_ratio.desc(),
            player_stats::wins.desc(),
            player_stats::last_finish_time,
            player_stats::user_id,
        )
    };
}

/// The same, from its end.
macro_rules! worst_first {
    () => {
        (
            player_stats::win_ratio,
            player_stats::wins,
            player_stats::last_finish_time.desc(),
            player_stats::user_id.desc(),
        )
    };
}

/// The columns of a [`RankedRow`].
macro_rules! ranked_columns {
    () => {
        (
            player_stats::user_id,
            players::login,
            player_stats::wins,
            player_stats::losses,
            player_stats::draws,
            player_stats::win_ratio,
            player_stats::last_finish_time,
        )
    };
}

/// Adds what `row` holds to what the player has, who may have nothing yet. Gives the sum. The row stays locked until the transaction ends.
pub(crate) async fn stats_add(conn: &mut Conn, row: &StatsRow) -> db::Result<StatsRow> {
    let ratio = sql::<types::Double>(
        "CAST(player_stats.wins + excluded.wins AS DOUBLE PRECISION) / CASE \
         WHEN player_stats.losses + player_stats.draws + excluded.losses + excluded.draws = 0 THEN 1 \
         ELSE player_stats.losses + player_stats.draws + excluded.losses + excluded.draws END",
    );
    let last = sql::<sql_types::Timestamp>(
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
                player_stats::games_played.eq(player_stats::games_played + excluded(player_stats::games_played)),
                player_stats::win_ratio.eq(ratio),
                player_stats::last_finish_time.eq(last),
            ))
            .returning(StatsRow::as_returning())
            .get_result(c)
            .await
    })
}

/// Adds players to a group, which may not be there yet.
pub(crate) async fn group_add(conn: &mut Conn, row: &GroupRow) -> db::Result<()> {
    query!(conn, |c| {
        diesel::insert_into(rank_groups::table)
            .values(row)
            .on_conflict((rank_groups::win_ratio, rank_groups::wins, rank_groups::games_played))
            .do_update()
            .set(rank_groups::players.eq(rank_groups::players + excluded(rank_groups::players)))
            .execute(c)
            .await
    })
    .map(|_| ())
}

/// Takes players out of a group, which goes with the last one. Says whether it had that many.
pub(crate) async fn group_take(conn: &mut Conn, row: &GroupRow) -> db::Result<bool> {
    let group = (row.win_ratio, row.wins, row.games_played);
    let left: Option<i64> = query!(conn, |c| {
        diesel::update(rank_groups::table.find(group))
            .filter(rank_groups::players.ge(row.players))
            .set(rank_groups::players.eq(rank_groups::players - row.players))
            .returning(rank_groups::players)
            .get_result(c)
            .await
            .optional()
    })?;
    if left == Some(0) {
        query!(conn, |c| diesel::delete(rank_groups::table.find(group))
            .execute(c)
            .await)?;
    }
    Ok(left.is_some())
}

/// Lets the leaderboard be read by an index alone where it is for players who have finished more than one game.
pub(crate) async fn leaderboard_prepare(conn: &mut Conn, min_games: i64) -> db::Result<()> {
    if min_games <= 1 {
        return Ok(());
    }
    if conn.backend() == Backend::Postgres {
        // It takes as long as it takes.
        query!(conn, |c| diesel::sql_query("SET LOCAL statement_timeout = 0")
            .execute(c)
            .await)?;
    }
    let index = format!(
        "CREATE INDEX IF NOT EXISTS player_stats_rank_of_{min_games}_idx \
         ON player_stats (win_ratio DESC, wins DESC, last_finish_time, user_id) WHERE games_played >= {min_games}"
    );
    query!(conn, |c| diesel::sql_query(index).execute(c).await).map(|_| ())
}

/// The best players who have finished enough games.
pub(crate) async fn leaderboard_top(conn: &mut Conn, min_games: i64, limit: i64) -> db::Result<Vec<RankedRow>> {
    query!(conn, |c| {
        player_stats::table
            .inner_join(players::table)
            .filter(ranked(min_games))
            .order(best_first!())
            .limit(limit)
            .select(ranked_columns!())
            .load(c)
            .await
    })
}

/// A player's stats, and how many players with enough games are above, whether or not this one has.
pub(crate) async fn leaderboard_place(
    conn: &mut Conn,
    user_id: UserId,
    min_games: i64,
) -> db::Result<Option<(RankedRow, i64)>> {
    let above = sql::<types::BigInt>(
        "(SELECT CAST(COALESCE(SUM(rank_groups.players), 0) AS BIGINT) FROM rank_groups \
         WHERE (rank_groups.win_ratio, rank_groups.wins) > (player_stats.win_ratio, player_stats.wins) \
         AND rank_groups.games_played >= ",
    );
    query!(conn, |c| {
        player_stats::table
            .inner_join(players::table)
            .filter(player_stats::user_id.eq(user_id))
            .select((ranked_columns!(), above.bind::<types::BigInt, _>(min_games).sql(")")))
            .first(c)
            .await
            .optional()
    })
}

/// The players next to this one, the nearest first.
pub(crate) async fn leaderboard_next_to(
    conn: &mut Conn,
    of: &RankedRow,
    side: Side,
    min_games: i64,
    limit: i64,
) -> db::Result<Vec<RankedRow>> {
    let sign = if side == Side::Above { "<" } else { ">" };
    // First who is equal in ratio and wins: an index finds the place among them.
    let mut next: Vec<RankedRow> = query!(conn, |c| {
        let equal = player_stats::table
            .inner_join(players::table)
            .filter(ranked(min_games))
            .filter(player_stats::win_ratio.eq(of.win_ratio))
            .filter(player_stats::wins.eq(of.wins))
            .filter(
                sql::<types::Bool>("(player_stats.last_finish_time, player_stats.user_id) ")
                    .sql(sign)
                    .sql(" (")
                    .bind::<sql_types::Timestamp, _>(of.last_finish_time)
                    .sql(", ")
                    .bind::<sql_types::Uuid, _>(of.user_id)
                    .sql(")"),
            )
            .limit(limit)
            .select(ranked_columns!())
            .into_boxed();
        let equal = match side {
            Side::Above => equal.order(worst_first!()),
            Side::Below => equal.order(best_first!()),
        };
        equal.load(c).await
    })?;
    let missing = limit - i64::try_from(next.len()).unwrap_or(limit);
    if missing > 0 {
        let sign = if side == Side::Above { ">" } else { "<" };
        let further: Vec<RankedRow> = query!(conn, |c| {
            let further = player_stats::table
                .inner_join(players::table)
                .filter(ranked(min_games))
                .filter(
                    sql::<types::Bool>("(player_stats.win_ratio, player_stats.wins) ")
                        .sql(sign)
                        .sql(" (")
                        .bind::<types::Double, _>(of.win_ratio)
                        .sql(", ")
                        .bind::<types::BigInt, _>(of.wins)
                        .sql(")"),
                )
                .limit(missing)
                .select(ranked_columns!())
                .into_boxed();
            let further = match side {
                Side::Above => further.order(worst_first!()),
                Side::Below => further.order(best_first!()),
            };
            further.load(c).await
        })?;
        next.extend(further);
    }
    Ok(next)
}

/// How many players with enough games there are of each ratio and wins between these two, best first.
pub(crate) async fn group_sizes(
    conn: &mut Conn,
    best: &RankedRow,
    worst: &RankedRow,
    min_games: i64,
) -> db::Result<Vec<(f64, i64, i64)>> {
    let place = |sign: &str, row: &RankedRow| {
        sql::<types::Bool>("(rank_groups.win_ratio, rank_groups.wins) ")
            .sql(sign)
            .sql(" (")
            .bind::<types::Double, _>(row.win_ratio)
            .sql(", ")
            .bind::<types::BigInt, _>(row.wins)
            .sql(")")
    };
    query!(conn, |c| rank_groups::table
        .filter(rank_groups::games_played.ge(min_games))
        .filter(place("<=", best))
        .filter(place(">=", worst))
        .group_by((rank_groups::win_ratio, rank_groups::wins))
        .order((rank_groups::win_ratio.desc(), rank_groups::wins.desc()))
        .select((
            rank_groups::win_ratio,
            rank_groups::wins,
            sql::<types::BigInt>("CAST(SUM(rank_groups.players) AS BIGINT)")
        ))
        .load(c)
        .await)
}

/// Who is ranked. A literal, so that the database sees which index it is about.
fn ranked(min_games: i64) -> SqlLiteral<types::Bool> {
    sql(&format!("player_stats.games_played >= {min_games}"))
}
