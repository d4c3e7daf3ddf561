//! Games as clients see them: with their moves and the players' logins, read in one statement.
//!
//! Anyone may see a waiting game. Any other game is visible only to its two players. A hidden game
//! is not even read, so that the response time does not reveal that it exists.

use base::{ids::UserId, sql_types};
use db::{Backend, Prepared, Sql, prelude::*, prepared};
use diesel::sql_types::{Array, Bool, Nullable, Text};

use super::{
    GameRow,
    game::{WAITING, fill_in},
    schema::games,
};
use crate::ids::GameId;

/// Row of a game, and the logins of its players.
#[derive(Clone, Debug)]
pub(crate) struct PlayedRows {
    pub(crate) game: GameRow,
    /// Login of X. Empty while the side is free, if the computer plays it, or if the user was
    /// deleted.
    pub(crate) x_login: String,
    /// Login of O. Empty while the side is free, if the computer plays it, or if the user was
    /// deleted.
    pub(crate) o_login: String,
}

/// Request to read a game on behalf of a user. Without a user, every game is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ViewRequest {
    pub(crate) game: GameId,
    pub(crate) user: Option<UserId>,
}

type Row = (GameRow, Option<String>, Option<String>);

/// The columns of a [`Row`].
macro_rules! columns {
    () => {
        (
            GameRow::as_select(),
            login("(SELECT login FROM players WHERE players.id = games.x_player_id)"),
            login("(SELECT login FROM players WHERE players.id = games.o_player_id)"),
        )
    };
}

/// Returns the game if it exists and is visible.
pub(crate) async fn game_with_moves(conn: &mut Conn, request: ViewRequest) -> db::Result<Option<PlayedRows>> {
    // No player has the nil id.
    let user = request.user.unwrap_or(UserId::from_uuid(uuid::Uuid::nil()));
    let is_seen = request.user.is_none().into_sql::<Bool>().or(games::state.eq(WAITING));
    let rows: Vec<Row> = query!(conn, |c| games::table
        .filter(games::id.eq(request.game))
        .filter(is_seen.or(games::x_player_id.eq(user)).or(games::o_player_id.eq(user)))
        .select(columns!())
        .load(c)
        .await)?;
    Ok(played(conn, rows).await?.pop())
}

/// Returns the requested games that exist and are visible. PostgreSQL reads several of them in one
/// statement.
pub(crate) async fn games_with_moves(
    conn: &mut Conn,
    requests: &[ViewRequest],
) -> db::Result<Vec<(ViewRequest, PlayedRows)>> {
    let mut found = Vec::with_capacity(requests.len());
    if requests.len() > 1 && conn.backend() == Backend::Postgres {
        let played = games_of_many(conn, requests).await?;
        for request in requests {
            let seen = played.iter().find(|played| request.sees(&played.game));
            found.extend(seen.map(|played| (*request, played.clone())));
        }
    } else {
        for request in requests {
            let played = game_with_moves(conn, *request).await?;
            found.extend(played.map(|played| (*request, played)));
        }
    }
    Ok(found)
}

/// Reads those games that at least one of their requests may see. PostgreSQL only: SQLite has no
/// arrays.
async fn games_of_many(conn: &mut Conn, requests: &[ViewRequest]) -> db::Result<Vec<PlayedRows>> {
    let games: Vec<GameId> = requests.iter().map(|request| request.game).collect();
    let users: Vec<Option<UserId>> = requests.iter().map(|request| request.user).collect();
    let is_seen = prepared::<Bool>("EXISTS (SELECT 1 FROM unnest(")
        .bind::<Array<sql_types::Uuid>, _>(&games)
        .text(", ")
        .bind::<Array<Nullable<sql_types::Uuid>>, _>(users)
        .text(
            ") AS request (game_id, user_id) WHERE request.game_id = games.id AND (request.user_id IS NULL \
             OR games.state = 'waiting' OR request.user_id IN (games.x_player_id, games.o_player_id)))",
        );
    let rows: Vec<Row> = query_postgres!(conn, |c| games::table
        .filter(games::id.eq_any(&games))
        .filter(is_seen)
        .select(columns!())
        .cached()
        .load(c)
        .await)?;
    played(conn, rows).await
}

fn login(text: &'static str) -> Prepared<Nullable<Text>, Sql> {
    prepared(text)
}

async fn played(conn: &mut Conn, rows: Vec<Row>) -> db::Result<Vec<PlayedRows>> {
    let played = rows.into_iter().map(|(game, x_login, o_login)| PlayedRows {
        game,
        x_login: x_login.unwrap_or_default(),
        o_login: o_login.unwrap_or_default(),
    });
    let mut played: Vec<PlayedRows> = played.collect();
    fill_in(conn, played.iter_mut().map(|played| &mut played.game).collect()).await?;
    Ok(played)
}

impl ViewRequest {
    /// Checks whether this is the requested game, and visible to the user.
    fn sees(&self, game: &GameRow) -> bool {
        let is_player = |user| [game.x_player_id, game.o_player_id].contains(&Some(user));
        self.game == game.id && (game.state == WAITING || self.user.is_none_or(is_player))
    }
}
