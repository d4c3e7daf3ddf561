//! The tables `games` and `moves`.

use base::{clock::Timestamp, ids::UserId, page::Position, sql_types};
use db::{Backend, Db, Raw, prelude::*, prepared, write_tx};
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};
use tracing::Instrument as _;

use super::schema::{games, moves};
use crate::ids::{GameId, GameKind, RequestId};

/// A game, without its moves.
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
}

/// A move.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = moves, treat_none_as_default_value = false)]
pub(crate) struct MoveRow {
    pub(crate) game_id: GameId,
    pub(crate) ply: i32,
    pub(crate) cell: i32,
    pub(crate) mark: String,
    pub(crate) player_id: Option<UserId>,
    pub(crate) version: i64,
    pub(crate) create_time: Timestamp,
}

/// The state of a game that waits for a player.
pub(super) const WAITING: &str = "waiting";

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
    Ok(running)
}

/// Returns the number of this user's unfinished games, except those whose time has run out.
pub(crate) async fn games_running_count(conn: &mut Conn, user: UserId, now: Timestamp) -> db::Result<i64> {
    // Each side is counted separately, since each has its own index.
    let count = prepared::<BigInt>("SELECT (SELECT count(*) FROM games WHERE finish_time IS NULL AND expire_time > ")
        .bind::<sql_types::Timestamp, _>(now)
        .text(" AND x_player_id = ")
        .bind::<sql_types::Uuid, _>(user)
        .text(") + (SELECT count(*) FROM games WHERE finish_time IS NULL AND expire_time > ")
        .bind::<sql_types::Timestamp, _>(now)
        .text(" AND o_player_id = ")
        .bind::<sql_types::Uuid, _>(user)
        .text(")");
    let rows: Vec<i64> = query!(conn, |c| count.load(c).await)?;
    Ok(rows.into_iter().next().unwrap_or(0))
}

/// Reads the game and locks its row until the transaction ends.
pub(crate) async fn game_lock(conn: &mut Conn, id: GameId) -> db::Result<Option<GameRow>> {
    lock_row!(conn, games::table.find(id).select(GameRow::as_select()))
}

/// Change of a game, and the moves that it consists of.
#[derive(Debug)]
pub(crate) struct GameChange {
    pub(crate) id: GameId,
    /// Version of the game before the change.
    pub(crate) version: i64,
    pub(crate) update: GameUpdate,
    pub(crate) made: Vec<MoveRow>,
}

/// Writes a change after which the game goes on, and announces it on `channel`. Returns false, and
/// writes nothing, if the game is no longer at the expected version.
///
/// On PostgreSQL this is one statement instead of a transaction of four, which halves the database
/// time of a move (`cargo run --release -p bench -- moves`).
pub(crate) async fn game_go_on(db: &Db, change: GameChange, channel: &'static str) -> db::Result<bool> {
    if db.backend() == Backend::Sqlite {
        return write_tx!(db, |tx| {
            if !game_update(tx, change.id, change.version, &change.update).await? {
                return Ok(false);
            }
            moves_insert(tx, &change.made).await?;
            db::announce(tx, channel, *change.id.as_uuid());
            Ok(true)
        });
    }
    let (db, mut conn) = (db.clone(), db.write().await?);
    // Runs in its own task, so that a committed change is announced even if the caller goes away
    // meanwhile.
    let write = async move {
        let written = game_go_on_at_once(&mut conn, &change).await?;
        if written {
            db.announce(channel, *change.id.as_uuid());
        }
        Ok(written)
    };
    let written = tokio::spawn(write.in_current_span()).await;
    written.unwrap_or_else(|error| Err(db::Error::Internal(Box::new(error))))
}

async fn game_go_on_at_once(conn: &mut Conn, change: &GameChange) -> db::Result<bool> {
    let GameChange {
        id,
        version,
        update,
        made,
    } = change;
    let column = |of: fn(&MoveRow) -> i32| -> Vec<i32> { made.iter().map(of).collect() };
    let write = prepared::<()>("WITH changed AS (UPDATE games SET board = ")
        .bind::<Text, _>(&update.board)
        .text(", version = ")
        .bind::<BigInt, _>(update.version)
        .text(", update_time = ")
        .bind::<sql_types::Timestamp, _>(update.update_time)
        .text(", expire_time = ")
        .bind::<Nullable<sql_types::Timestamp>, _>(update.expire_time)
        .text(" WHERE id = ")
        .bind::<sql_types::Uuid, _>(*id)
        .text(" AND version = ")
        .bind::<BigInt, _>(*version)
        .text(
            " RETURNING id) INSERT INTO moves (game_id, ply, cell, mark, player_id, version, create_time) \
             SELECT changed.id, made.ply, made.cell, made.mark, made.player_id, made.version, made.time \
             FROM changed CROSS JOIN unnest(",
        )
        .bind::<Array<Integer>, _>(column(|made| made.ply))
        .text(", ")
        .bind::<Array<Integer>, _>(column(|made| made.cell))
        .text(", ")
        .bind::<Array<Text>, _>(made.iter().map(|made| &made.mark).collect::<Vec<_>>())
        .text(", ")
        .bind::<Array<Nullable<sql_types::Uuid>>, _>(made.iter().map(|made| made.player_id).collect::<Vec<_>>())
        .text(", ")
        .bind::<Array<BigInt>, _>(made.iter().map(|made| made.version).collect::<Vec<_>>())
        .text(", ")
        .bind::<Array<sql_types::Timestamp>, _>(made.iter().map(|made| made.create_time).collect::<Vec<_>>())
        .text(") AS made (ply, cell, mark, player_id, version, time)");
    let (raw, statement) = conn.start(|| "game_go_on");
    let result = match raw {
        Raw::Sqlite(_) => Ok(0),
        Raw::Postgres(c) => statement.run(write.execute(c)).await,
    };
    statement.end(result).map(|rows| rows == made.len() && !made.is_empty())
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

/// Returns games whose time had run out by `now`, each with the time when it did. The longest
/// overdue games come first.
pub(crate) async fn games_overdue(
    conn: &mut Conn,
    now: Timestamp,
    after: Option<(Timestamp, GameId)>,
    limit: i64,
) -> db::Result<Vec<(Timestamp, GameId)>> {
    query!(conn, |c| {
        let mut overdue = games::table
            .filter(games::finish_time.is_null())
            .filter(games::expire_time.le(now))
            .select((games::expire_time.assume_not_null(), games::id))
            .into_boxed();
        if let Some((time, id)) = after {
            let tie = games::expire_time.gt(time).or(games::id.gt(id).nullable());
            overdue = overdue.filter(games::expire_time.ge(time)).filter(tie);
        }
        overdue
            .order((games::expire_time, games::id))
            .limit(limit)
            .load(c)
            .await
    })
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
    query!(conn, |c| {
        let mut waiting = games::table
            .filter(games::state.eq(WAITING))
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
    })
}

pub(crate) async fn games_by_ids(conn: &mut Conn, ids: &[GameId]) -> db::Result<Vec<GameRow>> {
    query!(conn, |c| games::table
        .filter(games::id.eq_any(ids))
        .select(GameRow::as_select())
        .load(c)
        .await)
}

pub(crate) async fn moves_insert(conn: &mut Conn, rows: &[MoveRow]) -> db::Result<()> {
    for row in rows {
        query!(conn, |c| diesel::insert_into(moves::table).values(row).execute(c).await)?;
    }
    Ok(())
}

/// Returns the moves of these games, those of each game in order.
pub(crate) async fn moves_by_games(conn: &mut Conn, ids: &[GameId]) -> db::Result<Vec<MoveRow>> {
    query!(conn, |c| {
        moves::table
            .filter(moves::game_id.eq_any(ids))
            .order((moves::game_id, moves::ply))
            .select(MoveRow::as_select())
            .load(c)
            .await
    })
}
