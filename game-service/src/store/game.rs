//! The table `games`.

use base::{clock::Timestamp, ids::UserId, page::Position, sql_types};
use db::{Backend, prelude::*, prepared};
use diesel::{
    dsl::sql,
    sql_types::{Array, BigInt, Bool},
};

use super::{
    moves::{Moves, fill_in_moves},
    schema::games,
};
use crate::ids::{GameId, GameKind, RequestId};

/// A game.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = games, treat_none_as_default_value = false)]
pub(crate) struct GameRow {
    pub(crate) id: GameId,
    pub(crate) opponent: String,
    pub(crate) creator_id: UserId,
    pub(crate) x_player_id: Option<UserId>,
    pub(crate) o_player_id: Option<UserId>,
    pub(crate) board: String,
    pub(crate) state: String,
    pub(crate) winner: Option<String>,
    pub(crate) version: i64,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) finish_time: Option<Timestamp>,
    pub(crate) end_reason: Option<String>,
    pub(crate) create_request: Option<RequestId>,
    pub(crate) expire_time: Option<Timestamp>,
    /// Time of the next check whether the time of the game has run out.
    pub(crate) sweep_time: Timestamp,
    /// Filled in by every function here that reads a game.
    pub(crate) moves: Option<Moves>,
    /// Whether the game counts on the leaderboard.
    pub(crate) is_ranked: bool,
}

/// Columns of a game that can change.
#[derive(Debug, AsChangeset)]
#[diesel(table_name = games, treat_none_as_null = true)]
pub(crate) struct GameUpdate {
    pub(crate) x_player_id: Option<UserId>,
    pub(crate) o_player_id: Option<UserId>,
    pub(crate) board: String,
    pub(crate) state: String,
    pub(crate) winner: Option<String>,
    pub(crate) version: i64,
    pub(crate) update_time: Timestamp,
    pub(crate) finish_time: Option<Timestamp>,
    pub(crate) end_reason: Option<String>,
    pub(crate) expire_time: Option<Timestamp>,
    pub(crate) sweep_time: Timestamp,
    pub(crate) moves: Option<Moves>,
    pub(crate) is_ranked: bool,
}

/// The state of a game that waits for a player.
pub(super) const WAITING: &str = "waiting";

/// Fills in the moves that rows lack because the games were played before rows held them.
pub(super) async fn fill_in(conn: &mut Conn, rows: Vec<&mut GameRow>) -> db::Result<()> {
    let read = rows
        .into_iter()
        .map(|row| (row.id, row.version, &mut row.moves))
        .collect();
    fill_in_moves(conn, read).await
}

pub(crate) async fn game_insert(conn: &mut Conn, row: &GameRow) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(games::table).values(row).execute(c).await).map(|_| ())
}

/// Returns the game that this user created with this request id, if any.
pub(crate) async fn game_by_request(
    conn: &mut Conn,
    creator: UserId,
    request: RequestId,
) -> db::Result<Option<GameId>> {
    query!(conn, |c| games::table
        .filter(games::creator_id.eq(creator))
        .filter(games::create_request.eq(request))
        .select(games::id)
        .first(c)
        .await
        .optional())
}

/// Returns the unfinished games of this user, newest first.
pub(crate) async fn games_running(
    conn: &mut Conn,
    user: UserId,
    after: Option<Position<GameKind>>,
    limit: i64,
) -> db::Result<Vec<GameRow>> {
    let mut running = Vec::new();
    // One query per side, since each side has its own index.
    for is_x in [true, false] {
        let rows: Vec<GameRow> = query!(conn, |c| {
            let mut side = games::table
                .filter(games::finish_time.is_null())
                .select(GameRow::as_select())
                .into_boxed();
            side = if is_x {
                side.filter(games::x_player_id.eq(user))
            } else {
                side.filter(games::o_player_id.eq(user))
            };
            if let Some(after) = after {
                let tie = games::create_time.lt(after.time).or(games::id.lt(after.id));
                side = side.filter(games::create_time.le(after.time)).filter(tie);
            }
            side.order((games::create_time.desc(), games::id.desc()))
                .limit(limit)
                .load(c)
                .await
        })?;
        running.extend(rows);
    }
    running.sort_unstable_by_key(|row| std::cmp::Reverse((row.create_time, row.id)));
    running.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    fill_in(conn, running.iter_mut().collect()).await?;
    Ok(running)
}

/// Appends a count of the player's unfinished games on one side, up to `limit`. Each side has its
/// own index. The ORDER BY makes PostgreSQL use this side's index even while the table is small.
macro_rules! running_on {
    ($query:expr, $side:literal, $now:expr, $limit:expr) => {
        $query
            .text(concat!(
                "(SELECT count(*) FROM (SELECT 1 FROM games WHERE finish_time IS NULL AND ",
                $side,
                " = player.id AND expire_time > "
            ))
            .bind::<sql_types::Timestamp, _>($now)
            .text(" ORDER BY create_time DESC, id DESC LIMIT ")
            .bind::<BigInt, _>($limit)
            .text(") AS running)")
    };
}
pub(super) use running_on;

/// Returns the number of this user's unfinished games whose time has not run out, counting at most
/// `limit` on either side.
pub(crate) async fn games_running_count(conn: &mut Conn, user: UserId, now: Timestamp, limit: i64) -> db::Result<i64> {
    let count = running_on!(prepared::<BigInt>("SELECT "), "x_player_id", now, limit).text(" + ");
    let count = running_on!(count, "o_player_id", now, limit)
        .text(" FROM (SELECT ")
        .bind::<sql_types::Uuid, _>(user)
        .text(" AS id) AS player");
    let rows: Vec<i64> = query!(conn, |c| count.load(c).await)?;
    Ok(rows.into_iter().next().unwrap_or(0))
}

/// Reads the game and locks its row until the transaction ends.
pub(crate) async fn game_lock(conn: &mut Conn, id: GameId) -> db::Result<Option<GameRow>> {
    let mut row: Option<GameRow> = lock_row!(conn, games::table.find(id).select(GameRow::as_select()))?;
    fill_in(conn, row.iter_mut().collect()).await?;
    Ok(row)
}

/// Writes the change if the game is still at `version`. Returns whether it was.
pub(crate) async fn game_update(conn: &mut Conn, id: GameId, version: i64, update: &GameUpdate) -> db::Result<bool> {
    let at_version = games::table.find(id).filter(games::version.eq(version));
    query!(conn, |c| diesel::update(at_version)
        .set(update)
        .cached()
        .execute(c)
        .await)
    .map(|rows| rows == 1)
}

/// Game that is due for a check: due time, id, deadline.
pub(crate) type Due = (Timestamp, GameId, Option<Timestamp>);

/// Returns the games due for a check: due time, id, deadline. Oldest first.
pub(crate) async fn games_due(
    conn: &mut Conn,
    now: Timestamp,
    after: Option<(Timestamp, GameId)>,
    limit: i64,
) -> db::Result<Vec<Due>> {
    query!(conn, |c| {
        let mut due = games::table
            .filter(games::finish_time.is_null())
            .filter(games::sweep_time.le(now))
            .select((games::sweep_time, games::id, games::expire_time))
            .into_boxed();
        if let Some((time, id)) = after {
            let tie = games::sweep_time.gt(time).or(games::id.gt(id));
            due = due.filter(games::sweep_time.ge(time)).filter(tie);
        }
        due.order((games::sweep_time, games::id)).limit(limit).load(c).await
    })
}

/// Postpones the check of these games to their deadline, unless they are over. PostgreSQL skips
/// those that are being changed.
pub(crate) async fn games_postpone(conn: &mut Conn, ids: &[GameId]) -> db::Result<()> {
    if conn.backend() == Backend::Postgres {
        let update = prepared::<()>(
            "UPDATE games SET sweep_time = expire_time WHERE id IN \
             (SELECT id FROM games WHERE finish_time IS NULL AND id = ANY(",
        )
        .bind::<Array<sql_types::Uuid>, _>(ids)
        .text(") ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)");
        return query_postgres!(conn, |c| update.execute(c).await).map(drop);
    }
    let running = games::table
        .filter(games::id.eq_any(ids))
        .filter(games::finish_time.is_null());
    let update = diesel::update(running).set(games::sweep_time.eq(games::expire_time.assume_not_null()));
    query!(conn, |c| update.execute(c).await).map(drop)
}

/// Returns the versions of these games.
pub(crate) async fn game_versions(conn: &mut Conn, ids: &[GameId]) -> db::Result<Vec<(GameId, i64)>> {
    query!(conn, |c| games::table
        .filter(games::id.eq_any(ids))
        .select((games::id, games::version))
        .load(c)
        .await)
}

/// Returns the games that wait for a second player and have time left at `now`, oldest first.
pub(crate) async fn games_waiting(
    conn: &mut Conn,
    now: Timestamp,
    after: Option<Position<GameKind>>,
    limit: i64,
) -> db::Result<Vec<GameRow>> {
    let mut rows: Vec<GameRow> = query!(conn, |c| {
        let mut waiting = games::table
            // A literal instead of a bound value, so that the partial index of these games is used.
            .filter(sql::<Bool>("games.state = 'waiting'"))
            .filter(games::expire_time.gt(now))
            .select(GameRow::as_select())
            .into_boxed();
        if let Some(after) = after {
            // The first condition sets the start of the index scan. The second one breaks ties.
            let tie = games::create_time.gt(after.time).or(games::id.gt(after.id));
            waiting = waiting.filter(games::create_time.ge(after.time)).filter(tie);
        }
        waiting
            .order((games::create_time, games::id))
            .limit(limit)
            .load(c)
            .await
    })?;
    fill_in(conn, rows.iter_mut().collect()).await?;
    Ok(rows)
}

pub(crate) async fn games_by_ids(conn: &mut Conn, ids: &[GameId]) -> db::Result<Vec<GameRow>> {
    let mut rows: Vec<GameRow> = query!(conn, |c| games::table
        .filter(games::id.eq_any(ids))
        .select(GameRow::as_select())
        .load(c)
        .await)?;
    fill_in(conn, rows.iter_mut().collect()).await?;
    Ok(rows)
}
