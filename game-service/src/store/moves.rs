//! The moves of a game, as one column of its row.
//!
//! A move changes the row of its game in any case. A row of its own would cost three more index
//! entries, and as much again of PostgreSQL's time.

#[cfg(test)]
mod tests;

use std::{fmt::Write as _, io::Write as _};

use base::{clock::Timestamp, sql_types};
use db::{Backend, Db, prelude::*, prepared, write_tx};
use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    serialize::{self, Output, ToSql},
    sql_types::{Array, BigInt, Text},
};

use crate::ids::GameId;

/// Moves of a game, in order. X and O alternate, beginning with X.
#[derive(Clone, Debug, Default, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub(crate) struct Moves(pub(crate) Vec<StoredMove>);

/// A move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredMove {
    /// Number of the cell, 0 to 8.
    pub(crate) cell: i32,
    /// Version of the game after the move.
    pub(crate) version: i64,
    pub(crate) time: Timestamp,
}

/// Error for a column whose text is not a list of moves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} are not the moves of a game")]
pub(crate) struct UnreadableMoves(String);

impl Moves {
    /// Reads text such as `4 3 1795219200000000,0 4 1795219201000000`: for each move the cell, the
    /// version, and the time in microseconds.
    fn parse(text: &str) -> Option<Self> {
        let parse = |text: &str| {
            let mut numbers = text.split(' ');
            let made = StoredMove {
                cell: numbers.next()?.parse().ok()?,
                version: numbers.next()?.parse().ok()?,
                time: Timestamp::from_micros(numbers.next()?.parse().ok()?),
            };
            numbers.next().is_none().then_some(made)
        };
        let moves: Option<Vec<StoredMove>> = text.split_terminator(',').map(parse).collect();
        moves.map(Self)
    }

    /// Returns the text that [`parse`](Self::parse) reads.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(24 * self.0.len());
        for made in &self.0 {
            if !text.is_empty() {
                text.push(',');
            }
            // Writing to a string cannot fail.
            let _ = write!(text, "{} {} {}", made.cell, made.version, made.time.as_micros());
        }
        text
    }
}

impl<DB: diesel::backend::Backend> FromSql<Text, DB> for Moves
where
    String: FromSql<Text, DB>,
{
    fn from_sql(value: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let text = String::from_sql(value)?;
        Self::parse(&text).ok_or_else(|| UnreadableMoves(text).into())
    }
}

impl ToSql<Text, diesel::pg::Pg> for Moves {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, diesel::pg::Pg>) -> serialize::Result {
        out.write_all(self.text().as_bytes())?;
        Ok(serialize::IsNull::No)
    }
}

impl ToSql<Text, diesel::sqlite::Sqlite> for Moves {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, diesel::sqlite::Sqlite>) -> serialize::Result {
        out.set_value(self.text());
        Ok(serialize::IsNull::No)
    }
}

/// Moves of a game as its row was read, with the game's id and the version in that row.
pub(super) type ReadMoves<'a> = (GameId, i64, &'a mut Option<Moves>);

/// Fills in the moves of games that were played before their rows held the moves.
pub(super) async fn fill_in_moves(conn: &mut Conn, mut lacking: Vec<ReadMoves<'_>>) -> db::Result<()> {
    lacking.retain(|(.., moves)| moves.is_none());
    if lacking.is_empty() {
        return Ok(());
    }
    let ids: Vec<GameId> = lacking.iter().map(|(id, ..)| *id).collect();
    let found = moves_now(conn, &ids).await?;
    for (id, version, moves) in &mut lacking {
        let now = found.iter().find(|(found, _)| found == id);
        let mut now = now.map(|(_, moves)| moves.clone()).unwrap_or_default();
        // More moves may have been made since the row was read.
        now.0.retain(|made| made.version <= *version);
        **moves = Some(now);
    }
    Ok(())
}

/// Returns the moves of these games, migrated or not.
async fn moves_now(conn: &mut Conn, ids: &[GameId]) -> db::Result<Vec<(GameId, Moves)>> {
    // One statement, because the moves could be migrated between two.
    let select = prepared::<(sql_types::Uuid, Text)>(
        "SELECT id, coalesce(moves, moves_before_of(id)) FROM games WHERE id = ANY(",
    )
    .bind::<Array<sql_types::Uuid>, _>(ids)
    .text(")");
    query_postgres!(conn, |c| select.load(c).await)
}

/// Migrates the moves of up to `limit` games that the previous version stored in a table of their
/// own. Returns the last game it looked at, or `None` if no more follow `after`. Skips games that
/// are being changed.
///
/// Does nothing on SQLite, where the migration has done it: no older replica can serve the same
/// file.
pub(crate) async fn moves_take_over(db: &Db, after: Option<GameId>, limit: i64) -> db::Result<Option<GameId>> {
    if db.backend() == Backend::Sqlite {
        return Ok(None);
    }
    let after = after.unwrap_or(GameId::from_uuid(uuid::Uuid::nil()));
    write_tx!(db, |tx| {
        let some = prepared::<sql_types::Uuid>("SELECT DISTINCT game_id FROM moves_before WHERE game_id > ")
            .bind::<sql_types::Uuid, _>(after)
            .text(" ORDER BY game_id LIMIT ")
            .bind::<BigInt, _>(limit);
        let ids: Vec<GameId> = query_postgres!(tx, |c| some.load(c).await)?;
        let Some(last) = ids.last() else {
            return Ok(None);
        };
        // A game that is being changed is skipped: the change itself migrates its moves.
        let update = prepared::<()>(
            "UPDATE games SET moves = moves_before_of(id) WHERE id IN \
             (SELECT id FROM games WHERE moves IS NULL AND id = ANY(",
        )
        .bind::<Array<sql_types::Uuid>, _>(&ids)
        .text(") ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)");
        query_postgres!(tx, |c| update.execute(c).await)?;
        let delete = prepared::<()>(
            "DELETE FROM moves_before USING games \
             WHERE games.id = game_id AND games.moves IS NOT NULL AND game_id = ANY(",
        )
        .bind::<Array<sql_types::Uuid>, _>(&ids)
        .text(")");
        query_postgres!(tx, |c| delete.execute(c).await)?;
        Ok(Some(*last))
    })
}
