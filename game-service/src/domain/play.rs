//! The use cases of a game: create, look, join, move.

use shared::{
    clock::{Clock, Timestamp},
    db::{self, Conn, Db, write_tx},
    ids::UserId,
    page::{PageRequest, Position},
};

use super::{Error, Game, GameView, Opponent, finish, game::Played};
use crate::{
    ids::{GameId, GameKind, RequestId},
    rules::{Cell, Mark},
    store::{self, GameRow},
};

/// The use cases of games.
#[derive(Clone, Debug)]
pub(crate) struct Games {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
}

/// Who plays, as their access token names them.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    pub(crate) id: UserId,
    pub(crate) login: String,
}

/// Of the page tokens of open games, which are the same for everybody.
const OPEN_GAMES: &str = "game.v1.GameService/ListOpenGames";

impl Games {
    /// Starts a game. Without a mark, the players' marks are drawn by lot. A request of the same id once more gives its game as it is now.
    pub(crate) async fn create(
        &self,
        player: &Player,
        opponent: Opponent,
        mark: Option<Mark>,
        request: Option<RequestId>,
    ) -> Result<GameView, Error> {
        let wanted = mark;
        let mark = mark.unwrap_or_else(|| if rand::random() { Mark::X } else { Mark::O });
        let game = Game::new(GameId::generate(), opponent, player.id, mark, self.clock.now());
        write_tx!(self.db, |tx| {
            // First, and locked by that: of two requests with one id the second finds the first one's game.
            store::player_upsert(tx, player.id, &player.login).await?;
            if let Some(request) = request {
                store::player_lock(tx, player.id).await?;
                if let Some(row) = store::game_by_request(tx, player.id, request).await? {
                    let made = with_moves(tx, &row).await?;
                    if made.opponent != opponent || wanted.is_some_and(|mark| made.mark_of(player.id) != Some(mark)) {
                        return Err(Error::RequestIdReused);
                    }
                    return GameView::of_game(tx, made).await;
                }
            }
            store::game_insert(tx, &game.to_row(request)).await?;
            store::moves_insert(tx, &game.move_rows(0)).await?;
            GameView::of_game(tx, game).await
        })
    }

    /// A game that the player may see.
    pub(crate) async fn get(&self, player: UserId, id: GameId) -> Result<GameView, Error> {
        let conn = &mut self.db.read().await?;
        let row = visible(player, id, store::game_by_id(conn, id).await?)?;
        let game = with_moves(conn, &row).await?;
        GameView::of_game(conn, game).await
    }

    /// The games that wait for a player, oldest first, and the token of the next page.
    pub(crate) async fn list_open(&self, page: &PageRequest<GameKind>) -> Result<(Vec<GameView>, String), Error> {
        let conn = &mut self.db.read().await?;
        let mut rows = store::games_waiting(conn, page.after, page.limit()).await?;
        let position = |row: &GameRow| Position {
            time: row.create_time,
            id: row.id,
        };
        let next = page.cut(&mut rows, OPEN_GAMES, position);
        Ok((GameView::of_rows(conn, rows).await?, next))
    }

    /// What the page tokens of [`list_open`](Self::list_open) are good for.
    pub(crate) const fn open_games_query() -> &'static str {
        OPEN_GAMES
    }

    /// The player's games that are not over, the newest first, and the token of the next page.
    pub(crate) async fn list_mine(
        &self,
        player: UserId,
        page: &PageRequest<GameKind>,
    ) -> Result<(Vec<GameView>, String), Error> {
        let conn = &mut self.db.read().await?;
        let mut rows = store::games_running(conn, player, page.after, page.limit()).await?;
        let position = |row: &GameRow| Position {
            time: row.create_time,
            id: row.id,
        };
        let next = page.cut(&mut rows, &Self::my_games_query(player), position);
        Ok((GameView::of_rows(conn, rows).await?, next))
    }

    /// What the page tokens of [`list_mine`](Self::list_mine) are good for.
    pub(crate) fn my_games_query(player: UserId) -> String {
        format!("game.v1.GameService/ListMyGames {player}")
    }

    /// Gives a game up.
    pub(crate) async fn resign(&self, player: UserId, id: GameId) -> Result<GameView, Error> {
        self.end(player, id, Game::resign).await
    }

    /// Calls a game off that waits.
    pub(crate) async fn cancel(&self, player: UserId, id: GameId) -> Result<GameView, Error> {
        self.end(player, id, Game::cancel).await
    }

    /// Ends a game that the player may see in this way, and counts it.
    async fn end(
        &self,
        player: UserId,
        id: GameId,
        end: fn(&mut Game, UserId, Timestamp) -> Result<bool, Error>,
    ) -> Result<GameView, Error> {
        write_tx!(self.db, |tx| {
            let row = visible(player, id, store::game_lock(tx, id).await?)?;
            let mut game = with_moves(tx, &row).await?;
            let (version, now) = (game.version, self.clock.now());
            if end(&mut game, player, now)? {
                save(tx, &game, version).await?;
                finish::count(tx, &game, now).await?;
            }
            GameView::of_game(tx, game).await
        })
    }

    /// Takes the free side of a game.
    pub(crate) async fn join(&self, player: &Player, id: GameId) -> Result<GameView, Error> {
        // Who comes after the game has started must not learn that there was one. Who saw it wait and lost the race may.
        let row = store::game_by_id(&mut self.db.read().await?, id).await?;
        visible(player.id, id, row)?;
        write_tx!(self.db, |tx| {
            let row = store::game_lock(tx, id).await?.ok_or(Error::GameNotFound(id))?;
            let mut game = with_moves(tx, &row).await?;
            let version = game.version;
            if game.join(player.id, self.clock.now())? {
                store::player_upsert(tx, player.id, &player.login).await?;
                save(tx, &game, version).await?;
            }
            GameView::of_game(tx, game).await
        })
    }

    /// Makes a move, and the computer's answer.
    pub(crate) async fn make_move(
        &self,
        player: UserId,
        id: GameId,
        cell: Cell,
        expected_version: i64,
    ) -> Result<GameView, Error> {
        write_tx!(self.db, |tx| {
            let row = visible(player, id, store::game_lock(tx, id).await?)?;
            let mut game = with_moves(tx, &row).await?;
            let (version, made) = (game.version, game.moves.len());
            let now = self.clock.now();
            if game.play(player, cell, expected_version, now)? == Played::Now {
                save(tx, &game, version).await?;
                store::moves_insert(tx, &game.move_rows(made)).await?;
                if game.is_over() {
                    finish::count(tx, &game, now).await?;
                }
            }
            GameView::of_game(tx, game).await
        })
    }
}

/// The row of a game, if this user may see it; for everybody else there is none. Nothing more is read of the game before this, so
/// that the time it takes does not tell one from the other either.
fn visible(user: UserId, id: GameId, row: Option<GameRow>) -> Result<GameRow, Error> {
    match row {
        Some(row) if Game::from_rows(&row, &[])?.is_visible_to(user) => Ok(row),
        _ => Err(Error::GameNotFound(id)),
    }
}

async fn with_moves(conn: &mut Conn, row: &GameRow) -> Result<Game, Error> {
    let moves = store::moves_by_game(conn, row.id).await?;
    Game::from_rows(row, &moves)
}

/// Writes a game that was at `version`. The lock on its row leaves nobody to change it meanwhile; this makes sure.
async fn save(tx: &mut Conn, game: &Game, version: i64) -> Result<(), Error> {
    if store::game_update(tx, game.id, version, &game.to_update()).await? {
        Ok(())
    } else {
        Err(db::Error::Conflict(format!("game {} was no longer at version {version}", game.id)).into())
    }
}
