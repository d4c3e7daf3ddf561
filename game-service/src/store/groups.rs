//! Statements that write the rows of many calls at once, for group commits on PostgreSQL.
//!
//! Each takes its rows as arrays, one per column, so that the statement is the same however many
//! rows there are, and is planned once. Rows that another transaction has locked are left out
//! instead of waited for; locks are taken in the order of ids.
//!
//! Conditions such as `at_version BETWEEN 1 AND 9223372036854775807` hold for every row. PostgreSQL
//! expects few rows to meet them, and so looks each row up in an index. Without them, the few pages
//! of a new table would make it plan to read the whole table, and keep that plan as the table
//! grows.

use base::{clock::Timestamp, ids::UserId, sql_types};
use db::{prelude::*, prepared};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text};

use super::{GameRow, GameUpdate, Moves, ResultRow, StatsRow, game::running_on};
use crate::ids::{GameId, RequestId};

type Uuids = Array<sql_types::Uuid>;
type OptionalUuids = Array<Nullable<sql_types::Uuid>>;
type Texts = Array<Text>;
type OptionalTexts = Array<Nullable<Text>>;
type BigInts = Array<BigInt>;
type Bools = Array<Bool>;
type Timestamps = Array<sql_types::Timestamp>;
type OptionalTimestamps = Array<Nullable<sql_types::Timestamp>>;

/// One column of these rows.
fn column<'a, Row, Value>(rows: &'a [Row], value: impl Fn(&'a Row) -> Value) -> Vec<Value> {
    rows.iter().map(value).collect()
}

/// Change of a game.
#[derive(Debug)]
pub(crate) struct GameChange {
    pub(crate) id: GameId,
    /// Version of the game before the change.
    pub(crate) version: i64,
    pub(crate) update: GameUpdate,
}

/// Writes the changes of those games that are still at their versions and not locked. Returns their
/// ids.
pub(crate) async fn games_change(conn: &mut Conn, changes: &[GameChange]) -> db::Result<Vec<GameId>> {
    let write = prepared::<sql_types::Uuid>("WITH change AS MATERIALIZED (SELECT * FROM unnest(")
        .bind::<Uuids, _>(column(changes, |change| change.id))
        .text(", ")
        .bind::<BigInts, _>(column(changes, |change| change.version))
        .text(", ")
        .bind::<OptionalUuids, _>(column(changes, |change| change.update.x_player_id))
        .text(", ")
        .bind::<OptionalUuids, _>(column(changes, |change| change.update.o_player_id))
        .text(", ")
        .bind::<Texts, _>(column(changes, |change| change.update.board.as_str()))
        .text(", ")
        .bind::<Texts, _>(column(changes, |change| change.update.state.as_str()))
        .text(", ")
        .bind::<OptionalTexts, _>(column(changes, |change| change.update.winner.as_deref()))
        .text(", ")
        .bind::<BigInts, _>(column(changes, |change| change.update.version))
        .text(", ")
        .bind::<Timestamps, _>(column(changes, |change| change.update.update_time))
        .text(", ")
        .bind::<OptionalTimestamps, _>(column(changes, |change| change.update.finish_time))
        .text(", ")
        .bind::<OptionalTexts, _>(column(changes, |change| change.update.end_reason.as_deref()))
        .text(", ")
        .bind::<OptionalTimestamps, _>(column(changes, |change| change.update.expire_time))
        .text(", ")
        .bind::<Timestamps, _>(column(changes, |change| change.update.sweep_time))
        .text(", ")
        .bind::<OptionalTexts, _>(column(changes, |change| change.update.moves.as_ref().map(Moves::text)))
        .text(", ")
        .bind::<Bools, _>(column(changes, |change| change.update.is_ranked))
        .text(
            ") AS change (id, at_version, x_player_id, o_player_id, board, state, winner, version, update_time, \
             finish_time, end_reason, expire_time, sweep_time, moves, is_ranked) \
             WHERE at_version BETWEEN 1 AND 9223372036854775807), \
             locked AS MATERIALIZED (SELECT games.id FROM games JOIN change \
             ON games.id = change.id AND games.version = change.at_version \
             ORDER BY games.id FOR NO KEY UPDATE OF games SKIP LOCKED) \
             UPDATE games SET x_player_id = change.x_player_id, o_player_id = change.o_player_id, \
             board = change.board, state = change.state, winner = change.winner, version = change.version, \
             update_time = change.update_time, finish_time = change.finish_time, end_reason = change.end_reason, \
             expire_time = change.expire_time, sweep_time = change.sweep_time, moves = change.moves, \
             is_ranked = change.is_ranked \
             FROM change JOIN locked ON locked.id = change.id \
             WHERE games.id = change.id AND games.version = change.at_version RETURNING games.id",
        );
    query_postgres!(conn, |c| write.load(c).await)
}

pub(crate) async fn games_insert_together(conn: &mut Conn, rows: &[GameRow]) -> db::Result<()> {
    let insert = prepared::<()>(
        "INSERT INTO games (id, opponent, creator_id, x_player_id, o_player_id, board, state, winner, version, \
         create_time, update_time, finish_time, end_reason, create_request, expire_time, sweep_time, moves, is_ranked) \
         SELECT * FROM unnest(",
    )
    .bind::<Uuids, _>(column(rows, |row| row.id))
    .text(", ")
    .bind::<Texts, _>(column(rows, |row| row.opponent.as_str()))
    .text(", ")
    .bind::<Uuids, _>(column(rows, |row| row.creator_id))
    .text(", ")
    .bind::<OptionalUuids, _>(column(rows, |row| row.x_player_id))
    .text(", ")
    .bind::<OptionalUuids, _>(column(rows, |row| row.o_player_id))
    .text(", ")
    .bind::<Texts, _>(column(rows, |row| row.board.as_str()))
    .text(", ")
    .bind::<Texts, _>(column(rows, |row| row.state.as_str()))
    .text(", ")
    .bind::<OptionalTexts, _>(column(rows, |row| row.winner.as_deref()))
    .text(", ")
    .bind::<BigInts, _>(column(rows, |row| row.version))
    .text(", ")
    .bind::<Timestamps, _>(column(rows, |row| row.create_time))
    .text(", ")
    .bind::<Timestamps, _>(column(rows, |row| row.update_time))
    .text(", ")
    .bind::<OptionalTimestamps, _>(column(rows, |row| row.finish_time))
    .text(", ")
    .bind::<OptionalTexts, _>(column(rows, |row| row.end_reason.as_deref()))
    .text(", ")
    .bind::<OptionalUuids, _>(column(rows, |row| row.create_request))
    .text(", ")
    .bind::<OptionalTimestamps, _>(column(rows, |row| row.expire_time))
    .text(", ")
    .bind::<Timestamps, _>(column(rows, |row| row.sweep_time))
    .text(", ")
    .bind::<OptionalTexts, _>(column(rows, |row| row.moves.as_ref().map(Moves::text)))
    .text(", ")
    .bind::<Bools, _>(column(rows, |row| row.is_ranked))
    .text(")");
    query_postgres!(conn, |c| insert.execute(c).await).map(drop)
}

/// Returns the requests among these that have created a game.
pub(crate) async fn requests_known(
    conn: &mut Conn,
    requests: &[(UserId, RequestId)],
) -> db::Result<Vec<(UserId, Option<RequestId>)>> {
    let select = prepared::<(sql_types::Uuid, Nullable<sql_types::Uuid>)>(
        "SELECT games.creator_id, games.create_request FROM games JOIN unnest(",
    )
    .bind::<Uuids, _>(column(requests, |(creator, _)| *creator))
    .text(", ")
    .bind::<Uuids, _>(column(requests, |(_, request)| *request))
    .text(
        ") AS request (creator_id, id) \
         ON games.creator_id = request.creator_id AND games.create_request = request.id \
         WHERE request.id BETWEEN '00000000-0000-0000-0000-000000000000' AND 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
    );
    query_postgres!(conn, |c| select.load(c).await)
}

/// Locks the rows of these players until the transaction ends, so that others can still insert rows
/// that refer to them. Returns ids, logins, and whether the users are deleted, without players
/// whose row another transaction has locked. Creates the rows of new players.
///
/// The players must be sorted by id.
pub(crate) async fn players_lock_together(
    conn: &mut Conn,
    wanted: &[(UserId, &str)],
) -> db::Result<Vec<(UserId, String, bool)>> {
    let lock = prepared::<(sql_types::Uuid, Text, Bool)>(
        "SELECT players.id, players.login, players.is_deleted FROM players JOIN unnest(",
    )
    .bind::<Uuids, _>(column(wanted, |(id, _)| *id))
    .text(
        ") AS wanted (id) ON players.id = wanted.id \
         WHERE wanted.id BETWEEN '00000000-0000-0000-0000-000000000000' AND 'ffffffff-ffff-ffff-ffff-ffffffffffff' \
         ORDER BY players.id FOR NO KEY UPDATE OF players SKIP LOCKED",
    );
    let mut locked: Vec<(UserId, String, bool)> = query_postgres!(conn, |c| lock.load(c).await)?;
    if locked.len() < wanted.len() {
        let is_missing = |(id, _): &&(UserId, &str)| !locked.iter().any(|(known, ..)| known == id);
        let missing: Vec<(UserId, &str)> = wanted.iter().filter(is_missing).copied().collect();
        // An existing row stays as it is: another transaction has locked it.
        let insert = prepared::<(sql_types::Uuid, Text, Bool)>("INSERT INTO players (id, login) SELECT * FROM unnest(")
            .bind::<Uuids, _>(column(&missing, |(id, _)| *id))
            .text(", ")
            .bind::<Texts, _>(column(&missing, |(_, login)| *login))
            .text(") ON CONFLICT DO NOTHING RETURNING id, login, is_deleted");
        let new: Vec<(UserId, String, bool)> = query_postgres!(conn, |c| insert.load(c).await)?;
        locked.extend(new);
    }
    Ok(locked)
}

/// Sets the logins of these players, whose rows are locked.
pub(crate) async fn players_set_logins(conn: &mut Conn, logins: &[(UserId, &str)]) -> db::Result<()> {
    let update = prepared::<()>("UPDATE players SET login = called.login FROM unnest(")
        .bind::<Uuids, _>(column(logins, |(id, _)| *id))
        .text(", ")
        .bind::<Texts, _>(column(logins, |(_, login)| *login))
        .text(") AS called (id, login) WHERE players.id = called.id");
    query_postgres!(conn, |c| update.execute(c).await).map(drop)
}

/// Counts the unfinished games of each user, up to `limit` on each side.
pub(crate) async fn games_running_counts(
    conn: &mut Conn,
    users: &[UserId],
    now: Timestamp,
    limit: i64,
) -> db::Result<Vec<(UserId, i64)>> {
    let counts = prepared::<(sql_types::Uuid, BigInt)>("SELECT player.id, ");
    let counts = running_on!(counts, "x_player_id", now, limit).text(" + ");
    let counts = running_on!(counts, "o_player_id", now, limit)
        .text(" FROM unnest(")
        .bind::<Uuids, _>(users)
        .text(") AS player (id)");
    query_postgres!(conn, |c| counts.load(c).await)
}

pub(crate) async fn results_insert_together(conn: &mut Conn, rows: &[ResultRow]) -> db::Result<()> {
    let insert = prepared::<()>(
        "INSERT INTO game_results (user_id, game_id, result, opponent_id, finish_time, end_reason, counts) \
         SELECT * FROM unnest(",
    )
    .bind::<Uuids, _>(column(rows, |row| row.user_id))
    .text(", ")
    .bind::<Uuids, _>(column(rows, |row| row.game_id))
    .text(", ")
    .bind::<Texts, _>(column(rows, |row| row.result.as_str()))
    .text(", ")
    .bind::<OptionalUuids, _>(column(rows, |row| row.opponent_id))
    .text(", ")
    .bind::<Timestamps, _>(column(rows, |row| row.finish_time))
    .text(", ")
    .bind::<Texts, _>(column(rows, |row| row.end_reason.as_str()))
    .text(", ")
    .bind::<Array<Nullable<Bool>>, _>(column(rows, |row| row.counts))
    .text(")");
    query_postgres!(conn, |c| insert.execute(c).await).map(drop)
}

/// Locks the stats of these players until the transaction ends, and returns the players whose stats
/// another transaction has locked.
pub(crate) async fn stats_lock_together(conn: &mut Conn, users: &[UserId]) -> db::Result<Vec<UserId>> {
    let lock = prepared::<sql_types::Uuid>("WITH wanted AS MATERIALIZED (SELECT * FROM unnest(")
        .bind::<Uuids, _>(users)
        .text(
            ") AS wanted (id) \
             WHERE id BETWEEN '00000000-0000-0000-0000-000000000000' AND 'ffffffff-ffff-ffff-ffff-ffffffffffff'), \
             locked AS MATERIALIZED (SELECT player_stats.user_id FROM player_stats \
             JOIN wanted ON player_stats.user_id = wanted.id \
             ORDER BY player_stats.user_id FOR NO KEY UPDATE OF player_stats SKIP LOCKED) \
             SELECT player_stats.user_id FROM player_stats JOIN wanted ON player_stats.user_id = wanted.id \
             WHERE player_stats.user_id NOT IN (SELECT user_id FROM locked)",
        );
    query_postgres!(conn, |c| lock.load(c).await)
}

/// Adds each row to its player's stats, and creates them for new players. Each player may occur
/// only once. Rows must be sorted by id, because in that order they are locked until the
/// transaction ends.
pub(crate) async fn stats_add_together(conn: &mut Conn, rows: &[StatsRow]) -> db::Result<()> {
    let upsert = prepared::<()>(
        "INSERT INTO player_stats (user_id, wins, losses, draws, last_finish_time) SELECT * FROM unnest(",
    )
    .bind::<Uuids, _>(column(rows, |row| row.user_id))
    .text(", ")
    .bind::<BigInts, _>(column(rows, |row| row.wins))
    .text(", ")
    .bind::<BigInts, _>(column(rows, |row| row.losses))
    .text(", ")
    .bind::<BigInts, _>(column(rows, |row| row.draws))
    .text(", ")
    .bind::<Timestamps, _>(column(rows, |row| row.last_finish_time))
    .text(
        ") ON CONFLICT (user_id) DO UPDATE SET wins = player_stats.wins + excluded.wins, \
         losses = player_stats.losses + excluded.losses, draws = player_stats.draws + excluded.draws, \
         last_finish_time = greatest(player_stats.last_finish_time, excluded.last_finish_time)",
    );
    query_postgres!(conn, |c| upsert.execute(c).await).map(drop)
}
