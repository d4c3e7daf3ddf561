//! The use cases of a game: create, look, join, move, give up.

use std::time::Duration;

use shared::{
    clock::Clock,
    db::{self, Conn, Db, write_tx},
    ids::UserId,
    page::{PageRequest, Position},
};

use super::{
    Error, Game, GameView, Opponent, counts, finish,
    game::{Moment, Played},
    watch::{CHANNEL, Watchers},
};
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
    pub(crate) watchers: Watchers,
    pub(crate) rules: PlayRules,
}

/// What the settings say about games.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlayRules {
    /// How long a game waits for a second player.
    pub(crate) open_for: Duration,
    /// How long a player may take for a move.
    pub(crate) turn_for: Duration,
    /// Whether the logins of players come from the access feed, and not from their tokens.
    pub(crate) hears_of_names: bool,
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
        let game = Game::new(GameId::generate(), opponent, player.id, mark, self.moment());
        write_tx!(self.db, |tx| {
            // First, and locked by that: of two requests with one id the second finds the first one's game.
            self.admit(tx, player).await?;
            if let Some(request) = request
                && let Some(row) = store::game_by_request(tx, player.id, request).await?
            {
                let made = with_moves(tx, &row).await?;
                if made.opponent != opponent || wanted.is_some_and(|mark| made.mark_of(player.id) != Some(mark)) {
                    return Err(Error::RequestIdReused);
                }
                return GameView::of_game(tx, made).await;
            }
            store::game_insert(tx, &game.to_row(request)).await?;
            store::moves_insert(tx, &game.move_rows(0)).await?;
            counts::created(&game);
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
        let mut rows = store::games_waiting(conn, self.clock.now(), page.after, page.limit()).await?;
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
        self.change_own(player, id, |game, moment| game.resign(player, moment).map(drop))
            .await
    }

    /// Calls a game off that waits.
    pub(crate) async fn cancel(&self, player: UserId, id: GameId) -> Result<GameView, Error> {
        self.change_own(player, id, |game, moment| game.cancel(player, moment).map(drop))
            .await
    }

    /// Makes a move, and the computer's answer.
    pub(crate) async fn make_move(
        &self,
        player: UserId,
        id: GameId,
        cell: Cell,
        expected_version: i64,
    ) -> Result<GameView, Error> {
        let play = |game: &mut Game, moment| game.play(player, cell, expected_version, moment).map(|_: Played| ());
        self.change_own(player, id, play).await
    }

    /// Takes the free side of a game.
    pub(crate) async fn join(&self, player: &Player, id: GameId) -> Result<GameView, Error> {
        // Who comes after the game has started must not learn that there was one. Who saw it wait and lost the race may.
        let row = store::game_by_id(&mut self.db.read().await?, id).await?;
        visible(player.id, id, row)?;
        let joined: Result<Changed, Error> = write_tx!(self.db, |tx| {
            let row = store::game_lock(tx, id).await?.ok_or(Error::GameNotFound(id))?;
            self.admit(tx, player).await?;
            self.change(tx, &row, |game, moment| game.join(player.id, moment).map(drop))
                .await
        });
        joined?
    }

    /// Ends a game whose time has run out, unless it has changed meanwhile.
    pub(super) async fn end_overdue(&self, id: GameId) -> Result<(), Error> {
        self.change_any(id, |_, _| Ok(())).await
    }

    /// Ends a game of a user who is no more.
    pub(super) async fn abandon(&self, user: UserId, id: GameId) -> Result<(), Error> {
        let abandon = |game: &mut Game, moment| {
            game.abandon(user, moment);
            Ok(())
        };
        self.change_any(id, abandon).await
    }

    /// Changes a game for one who may see it.
    async fn change_own(
        &self,
        player: UserId,
        id: GameId,
        act: impl FnOnce(&mut Game, Moment) -> Result<(), Error>,
    ) -> Result<GameView, Error> {
        let changed: Result<Changed, Error> = write_tx!(self.db, |tx| {
            let row = visible(player, id, store::game_lock(tx, id).await?)?;
            self.change(tx, &row, act).await
        });
        changed?
    }

    /// Changes a game for nobody in particular.
    async fn change_any(
        &self,
        id: GameId,
        act: impl FnOnce(&mut Game, Moment) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let changed: Result<Changed, Error> = write_tx!(self.db, |tx| {
            let row = store::game_lock(tx, id).await?.ok_or(Error::GameNotFound(id))?;
            self.change(tx, &row, act).await
        });
        changed?.map(drop)
    }

    /// Ends the game in this locked row if its time has run out, then lets `act` change it, writes what has changed, and counts the game
    /// once it is over. What `act` refuses is given back as a value: that the time has run out stays true all the same.
    async fn change(
        &self,
        tx: &mut Conn,
        row: &GameRow,
        act: impl FnOnce(&mut Game, Moment) -> Result<(), Error>,
    ) -> Result<Changed, Error> {
        let mut game = with_moves(tx, row).await?;
        let made = game.moves.len();
        let moment = self.moment();
        game.run_out(moment);
        let acted = act(&mut game, moment);
        if game.version != row.version {
            save(tx, &game, row.version).await?;
            store::moves_insert(tx, &game.move_rows(made)).await?;
            db::announce(tx, CHANNEL, *game.id.as_uuid());
            if game.is_over() {
                finish::count(tx, &game).await?;
                counts::finished(&game);
            }
            counts::moved(game.moves.len() - made);
        }
        Ok(match acted {
            Ok(()) => Ok(GameView::of_game(tx, game).await?),
            Err(refused) => Err(refused),
        })
    }

    /// Lets a user play, whose row stays locked until the transaction ends.
    async fn admit(&self, tx: &mut Conn, player: &Player) -> Result<(), Error> {
        if self.rules.hears_of_names {
            // The login of the token may be older than what the feed has said.
            store::player_insert(tx, player.id, &player.login).await?;
        } else {
            store::player_called(tx, player.id, &player.login).await?;
        }
        if store::player_lock(tx, player.id).await? {
            return Err(Error::UserDeleted);
        }
        Ok(())
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            open_for: self.rules.open_for,
            turn_for: self.rules.turn_for,
        }
    }
}

/// The game after a change, or why it is not as the caller wants it.
type Changed = Result<GameView, Error>;

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
