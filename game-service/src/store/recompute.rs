//! What `recompute-leaderboard` reads and repairs.

use diesel::sql_types::BigInt;
use shared::{
    clock::Timestamp,
    db::{self, Prepared, Words, prelude::*, prepared},
    ids::UserId,
};

use super::{
    BandRow, GroupRow, ResultRow, StatsRow, band,
    schema::{game_results, games, player_stats, players, rank_bands, rank_groups},
};
use crate::ids::GameId;

/// How many games and players there are.
pub(crate) async fn counts(conn: &mut Conn) -> db::Result<(i64, i64)> {
    let games = query!(conn, |c| games::table.count().get_result(c).await)?;
    let players = query!(conn, |c| players::table.count().get_result(c).await)?;
    Ok((games, players))
}

/// Ids of games, in order.
pub(crate) async fn game_ids_after(conn: &mut Conn, after: Option<GameId>, limit: i64) -> db::Result<Vec<GameId>> {
    query!(conn, |c| {
        let mut ids = games::table
            .select(games::id)
            .order(games::id)
            .limit(limit)
            .into_boxed();
        if let Some(after) = after {
            ids = ids.filter(games::id.gt(after));
        }
        ids.load(c).await
    })
}

/// Every row of history of these games, by user id.
pub(crate) async fn results_by_games(conn: &mut Conn, ids: &[GameId]) -> db::Result<Vec<ResultRow>> {
    query!(conn, |c| game_results::table
        .filter(game_results::game_id.eq_any(ids))
        .order((game_results::game_id, game_results::user_id))
        .select(ResultRow::as_select())
        .load(c)
        .await)
}

pub(crate) async fn result_delete(conn: &mut Conn, row: &ResultRow) -> db::Result<()> {
    let row = game_results::table.find((row.user_id, row.game_id));
    query!(conn, |c| diesel::delete(row).execute(c).await).map(|_| ())
}

/// Ids of players, in order.
pub(crate) async fn player_ids_after(conn: &mut Conn, after: Option<UserId>, limit: i64) -> db::Result<Vec<UserId>> {
    query!(conn, |c| {
        let mut ids = players::table
            .select(players::id)
            .order(players::id)
            .limit(limit)
            .into_boxed();
        if let Some(after) = after {
            ids = ids.filter(players::id.gt(after));
        }
        ids.load(c).await
    })
}

/// How often each of these users had each result, and when last.
pub(crate) async fn results_summed(
    conn: &mut Conn,
    ids: &[UserId],
) -> db::Result<Vec<(UserId, String, i64, Option<Timestamp>)>> {
    use diesel::dsl::{count_star, max};
    query!(conn, |c| game_results::table
        .filter(game_results::user_id.eq_any(ids))
        .group_by((game_results::user_id, game_results::result))
        .select((
            game_results::user_id,
            game_results::result,
            count_star(),
            max(game_results::finish_time)
        ))
        .load(c)
        .await)
}

pub(crate) async fn stats_by_ids(conn: &mut Conn, ids: &[UserId]) -> db::Result<Vec<StatsRow>> {
    query!(conn, |c| player_stats::table
        .filter(player_stats::user_id.eq_any(ids))
        .select(StatsRow::as_select())
        .load(c)
        .await)
}

/// Reads a player's stats and locks them until the transaction ends; makes them, all zero, where there are none.
pub(crate) async fn stats_lock(conn: &mut Conn, user_id: UserId) -> db::Result<StatsRow> {
    let none = StatsRow {
        user_id,
        wins: 0,
        losses: 0,
        draws: 0,
        games_played: 0,
        win_ratio: 0.0,
        last_finish_time: Timestamp::from_micros(0),
    };
    query!(conn, |c| diesel::insert_into(player_stats::table)
        .values(&none)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    lock_row!(conn, player_stats::table.find(user_id).select(StatsRow::as_select()))?.ok_or(db::Error::NotFound)
}

pub(crate) async fn stats_replace(conn: &mut Conn, row: &StatsRow) -> db::Result<()> {
    let update = diesel::update(player_stats::table.find(row.user_id)).set(row);
    query!(conn, |c| update.execute(c).await).map(|_| ())
}

pub(crate) async fn stats_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let row = player_stats::table.find(user_id);
    query!(conn, |c| diesel::delete(row).execute(c).await).map(|_| ())
}

/// The groups that the players' stats make.
pub(crate) async fn groups_counted(conn: &mut Conn) -> db::Result<Vec<GroupRow>> {
    let key = (player_stats::win_ratio, player_stats::wins, player_stats::games_played);
    let counted: Vec<(f64, i64, i64, i64)> = query!(conn, |c| player_stats::table
        .group_by(key)
        .select((
            player_stats::win_ratio,
            player_stats::wins,
            player_stats::games_played,
            diesel::dsl::count_star()
        ))
        .load(c)
        .await)?;
    let row = |(win_ratio, wins, games_played, players)| GroupRow {
        band: band(wins, games_played - wins),
        win_ratio,
        wins,
        games_played,
        players,
    };
    Ok(counted.into_iter().map(row).collect())
}

/// The bands that the groups make.
pub(crate) async fn bands_counted(conn: &mut Conn) -> db::Result<Vec<BandRow>> {
    query!(conn, |c| rank_groups::table
        .group_by(rank_groups::band)
        .select((rank_groups::band, summed()))
        .load(c)
        .await)
}

/// The bands as they are noted.
pub(crate) async fn bands_noted(conn: &mut Conn) -> db::Result<Vec<BandRow>> {
    query!(conn, |c| rank_bands::table.select(BandRow::as_select()).load(c).await)
}

/// How many players a band is said to have; locks it until the transaction ends.
pub(crate) async fn band_lock(conn: &mut Conn, band: i32) -> db::Result<i64> {
    let none = BandRow { band, players: 0 };
    query!(conn, |c| diesel::insert_into(rank_bands::table)
        .values(&none)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    lock_row!(conn, rank_bands::table.find(band).select(rank_bands::players))?.ok_or(db::Error::NotFound)
}

/// How many players are in the groups of a band.
pub(crate) async fn band_count(conn: &mut Conn, band: i32) -> db::Result<i64> {
    query!(conn, |c| rank_groups::table
        .filter(rank_groups::band.eq(band))
        .select(summed())
        .first(c)
        .await)
}

fn summed() -> Prepared<BigInt, Words> {
    prepared("CAST(COALESCE(SUM(rank_groups.players), 0) AS BIGINT)")
}

/// The groups as they are noted.
pub(crate) async fn groups_noted(conn: &mut Conn) -> db::Result<Vec<GroupRow>> {
    query!(conn, |c| rank_groups::table.select(GroupRow::as_select()).load(c).await)
}

/// How many players a group is said to have; locks it until the transaction ends.
pub(crate) async fn group_lock(conn: &mut Conn, group: &GroupRow) -> db::Result<i64> {
    let none = GroupRow {
        players: 0,
        ..group.clone()
    };
    query!(conn, |c| diesel::insert_into(rank_groups::table)
        .values(&none)
        .on_conflict_do_nothing()
        .execute(c)
        .await)?;
    let key = (group.band, group.win_ratio, group.wins, group.games_played);
    lock_row!(conn, rank_groups::table.find(key).select(rank_groups::players))?.ok_or(db::Error::NotFound)
}

/// How many players are in a group.
pub(crate) async fn group_count(conn: &mut Conn, group: &GroupRow) -> db::Result<i64> {
    query!(conn, |c| player_stats::table
        .filter(player_stats::win_ratio.eq(group.win_ratio))
        .filter(player_stats::wins.eq(group.wins))
        .filter(player_stats::games_played.eq(group.games_played))
        .count()
        .get_result(c)
        .await)
}
