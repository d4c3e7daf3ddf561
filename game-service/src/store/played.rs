//! Games as their players see them: with their moves and the players' logins, by one statement.
//!
//! Everybody may see a game that waits, its two players any other. What is not seen is not read, so
//! that the time it takes does not tell that there is something.

use base::{ids::UserId, sql_types};
use db::{Backend, Prepared, Raw, Sql, prelude::*, prepared};
use diesel::sql_types::{Array, Bool, Nullable, Text};

use super::{
    GameRow, MoveRow,
    game::WAITING,
    schema::{games, moves},
};
use crate::ids::GameId;

/// A game as its players see it.
#[derive(Clone, Debug)]
pub(crate) struct PlayedRows {
    pub(crate) game: GameRow,
    /// In order.
    pub(crate) moves: Vec<MoveRow>,
    /// Empty where nobody plays X, and for the computer.
    pub(crate) x_login: String,
    /// Empty where nobody plays O, and for the computer.
    pub(crate) o_login: String,
}

/// Which game, and who is to see it: where nobody is named, whoever asks may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ViewRequest {
    pub(crate) game: GameId,
    pub(crate) user: Option<UserId>,
}

type Row = (GameRow, Option<MoveRow>, Option<String>, Option<String>);

/// The columns of a [`Row`].
macro_rules! columns {
    () => {
        (
            GameRow::as_select(),
            Option::<MoveRow>::as_select(),
            login("(SELECT login FROM players WHERE players.id = games.x_player_id)"),
            login("(SELECT login FROM players WHERE players.id = games.o_player_id)"),
        )
    };
}

/// The game, if it is there and may be seen.
pub(crate) async fn game_with_moves(conn: &mut Conn, request: ViewRequest) -> db::Result<Option<PlayedRows>> {
    // No player has the nil id.
    let user = request.user.unwrap_or(UserId::from_uuid(uuid::Uuid::nil()));
    let is_seen = request.user.is_none().into_sql::<Bool>().or(games::state.eq(WAITING));
    let rows: Vec<Row> = query!(conn, |c| games::table
        .left_join(moves::table)
        .filter(games::id.eq(request.game))
        .filter(is_seen.or(games::x_player_id.eq(user)).or(games::o_player_id.eq(user)))
        .order(moves::ply)
        .select(columns!())
        .load(c)
        .await)?;
    Ok(by_game(rows).pop())
}

/// Those of these games that are there and may be seen. PostgreSQL reads many by one statement.
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

/// All games of these that somebody who asks for them may see. SQLite has no arrays.
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
    let (raw, statement) = conn.start(|| "games_with_moves");
    let result: QueryResult<Vec<Row>> = match raw {
        Raw::Sqlite(_) => Ok(Vec::new()),
        Raw::Postgres(c) => {
            let query = games::table
                .left_join(moves::table)
                .filter(games::id.eq_any(&games))
                .filter(is_seen)
                .order((games::id, moves::ply))
                .select(columns!())
                .cached()
                .load(c);
            statement.run(query).await
        }
    };
    statement.end(result).map(by_game)
}

fn login(text: &'static str) -> Prepared<Nullable<Text>, Sql> {
    prepared(text)
}

/// Rows of one game follow each other.
fn by_game(rows: Vec<Row>) -> Vec<PlayedRows> {
    let mut all: Vec<PlayedRows> = Vec::new();
    for (game, made, x_login, o_login) in rows {
        match all.last_mut() {
            Some(played) if played.game.id == game.id => played.moves.extend(made),
            _ => all.push(PlayedRows {
                game,
                moves: made.into_iter().collect(),
                x_login: x_login.unwrap_or_default(),
                o_login: o_login.unwrap_or_default(),
            }),
        }
    }
    all
}

impl ViewRequest {
    /// Whether this is the game, and may be seen.
    fn sees(&self, game: &GameRow) -> bool {
        let is_player = |user| [game.x_player_id, game.o_player_id].contains(&Some(user));
        self.game == game.id && (game.state == WAITING || self.user.is_none_or(is_player))
    }
}
