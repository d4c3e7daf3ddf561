//! Use cases of games: create, read, list, join, move, resign and cancel.

use std::time::Duration;

use base::{
    clock::Clock,
    ids::UserId,
    page::{PageRequest, Position},
};
use db::{Conn, Db, Loader, write_tx};

use super::{
    Error, Game, GameView, Opponent, counts,
    game::{Moment, Played},
    results,
    watchers::{CHANNEL, Watchers},
};
use crate::{
    ids::{GameId, GameKind, RequestId},
    rules::{Cell, Mark},
    store::{self, GameChange, GameRow, PlayedRows, ViewRequest},
};

/// The use cases of games.
#[derive(Clone, Debug)]
pub(crate) struct Games {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) watchers: Watchers,
    pub(crate) rules: PlayRules,
    /// Loader of single games. On PostgreSQL it combines concurrent reads into one statement.
    pub(crate) played: Loader<ViewRequest, PlayedRows>,
}

/// Rules of play, from the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlayRules {
    /// How long a game waits for a second player.
    pub(crate) open_for: Duration,
    /// How long a player may take for a move.
    pub(crate) turn_for: Duration,
    /// Whether the logins of players come from the access feed, and not from their tokens.
    pub(crate) hears_of_names: bool,
    /// Maximum number of a player's unfinished games, including those that wait for a second
    /// player.
    pub(crate) max_running: u32,
}

/// Player, as identified by an access token.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    pub(crate) id: UserId,
    pub(crate) login: String,
}

/// Attempts at a change before it fails because others keep changing the game first.
const TRIES: usize = 10;

/// Query that page tokens of open games are bound to. It is the same for all callers.
const OPEN_GAMES: &str = "game.v1.GameService/ListOpenGames";

impl Games {
    /// Creates a game. Without a mark, the creator's mark is chosen at random. A repeated request
    /// id returns the game that it created, in its current state.
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
            // This comes first because it locks the player's row. Of two concurrent requests with
            // the same id, the second one then finds the game of the first.
            let login = self.admit(tx, player).await?;
            if let Some(request) = request
                && let Some(id) = store::game_by_request(tx, player.id, request).await?
            {
                let found = store::game_with_moves(tx, ViewRequest { game: id, user: None }).await?;
                let made = GameView::of_played(found.ok_or(Error::GameNotFound(id))?)?;
                let is_other = wanted.is_some_and(|mark| made.game.mark_of(player.id) != Some(mark));
                if made.game.opponent != opponent || is_other {
                    return Err(Error::RequestIdReused);
                }
                return Ok(made);
            }
            self.ensure_may_play_another(tx, player.id).await?;
            store::game_insert(tx, &game.to_row(request)).await?;
            store::moves_insert(tx, &game.move_rows(0)).await?;
            let login_of = |side: Option<UserId>| if side.is_some() { login.clone() } else { String::new() };
            let (x_login, o_login) = (login_of(game.x), login_of(game.o));
            counts::created(&game);
            Ok(GameView { game, x_login, o_login })
        })
    }

    /// Returns a game. Fails with [`Error::GameNotFound`] if the player may not see it.
    pub(crate) async fn get(&self, player: UserId, id: GameId) -> Result<GameView, Error> {
        let found = self
            .played
            .get(ViewRequest {
                game: id,
                user: Some(player),
            })
            .await?;
        GameView::of_played(found.ok_or(Error::GameNotFound(id))?)
    }

    /// Returns the games that wait for a second player, oldest first, and the token of the next
    /// page.
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

    /// Returns the query that the page tokens of [`list_open`](Self::list_open) are bound to.
    pub(crate) const fn open_games_query() -> &'static str {
        OPEN_GAMES
    }

    /// Returns the player's unfinished games, newest first, and the token of the next page.
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

    /// Returns the query that the page tokens of [`list_mine`](Self::list_mine) are bound to.
    pub(crate) fn my_games_query(player: UserId) -> String {
        format!("game.v1.GameService/ListMyGames {player}")
    }

    /// Resigns a game.
    pub(crate) async fn resign(&self, player: UserId, id: GameId) -> Result<GameView, Error> {
        let resign = |game: &mut Game, moment| game.resign(player, moment).map(drop);
        self.change(id, Some(player), None, resign).await
    }

    /// Cancels a game that waits for a second player.
    pub(crate) async fn cancel(&self, player: UserId, id: GameId) -> Result<GameView, Error> {
        let cancel = |game: &mut Game, moment| game.cancel(player, moment).map(drop);
        self.change(id, Some(player), None, cancel).await
    }

    /// Makes a move, and the computer's reply if the computer is the opponent.
    pub(crate) async fn make_move(
        &self,
        player: UserId,
        id: GameId,
        cell: Cell,
        expected_version: i64,
    ) -> Result<GameView, Error> {
        let play = |game: &mut Game, moment| game.play(player, cell, expected_version, moment).map(|_: Played| ());
        self.change(id, Some(player), None, play).await
    }

    /// Joins a game by taking its free side.
    pub(crate) async fn join(&self, player: &Player, id: GameId) -> Result<GameView, Error> {
        let join = |game: &mut Game, moment| game.join(player.id, moment).map(drop);
        self.change(id, Some(player.id), Some(player), join).await
    }

    /// Ends a game if its time has run out.
    pub(super) async fn end_overdue(&self, id: GameId) -> Result<(), Error> {
        self.change(id, None, None, |_, _| Ok(())).await.map(drop)
    }

    /// Ends an unfinished game of a deleted user.
    pub(super) async fn abandon(&self, user: UserId, id: GameId) -> Result<(), Error> {
        let abandon = |game: &mut Game, moment| {
            game.abandon(user, moment);
            Ok(())
        };
        self.change(id, None, None, abandon).await.map(drop)
    }

    /// Reads a game, lets `act` change it and writes the result. If the game was changed by others
    /// meanwhile, all of this is repeated, up to [`TRIES`] times.
    ///
    /// A game whose time has run out is ended first if the clock can be relied on. That end is
    /// written even if `act` then fails.
    ///
    /// A game that the user `seen_by` may not see is reported as not found. This is checked on the
    /// first attempt only. A user who arrives after the start of a game must not learn that it
    /// exists, but one who saw it waiting and lost the race for it may.
    async fn change(
        &self,
        id: GameId,
        mut seen_by: Option<UserId>,
        joining: Option<&Player>,
        act: impl Fn(&mut Game, Moment) -> Result<(), Error>,
    ) -> Result<GameView, Error> {
        for _ in 0..TRIES {
            let found = self
                .played
                .get(ViewRequest {
                    game: id,
                    user: seen_by.take(),
                })
                .await?;
            let mut view = GameView::of_played(found.ok_or(Error::GameNotFound(id))?)?;
            let before = (view.game.version, view.game.moves.len());
            let moment = self.moment();
            if view.game.has_run_out(moment)
                && let Some(settled) = self.db.settled(&self.clock).await?
            {
                view.game.run_out(Moment {
                    now: settled.now(),
                    ..moment
                });
            }
            let acted = act(&mut view.game, moment);
            if view.game.version == before.0 || self.write(&mut view, before, joining.filter(|_| acted.is_ok())).await?
            {
                return acted.map(|()| view);
            }
        }
        Err(db::Error::Conflict(format!("game {id} was changed by others again and again")).into())
    }

    /// Writes a changed game, given its previous version and number of moves. Also counts the
    /// result if the game is over. Returns false, and writes nothing, if the game no longer has
    /// that version.
    async fn write(
        &self,
        view: &mut GameView,
        (version, moves): (i64, usize),
        joining: Option<&Player>,
    ) -> Result<bool, Error> {
        let game = &view.game;
        let (update, made) = (game.to_update(), game.move_rows(moves));
        let written = if joining.is_none() && !game.is_over() && !made.is_empty() {
            let change = GameChange {
                id: game.id,
                version,
                update,
                made: made.clone(),
            };
            store::game_go_on(&self.db, change, CHANNEL).await?
        } else {
            let login: Result<Option<String>, Error> = write_tx!(self.db, |tx| {
                let login = match joining {
                    None => String::new(),
                    Some(player) => {
                        let login = self.admit(tx, player).await?;
                        self.ensure_may_play_another(tx, player.id).await?;
                        login
                    }
                };
                if !store::game_update(tx, game.id, version, &update).await? {
                    return Ok(None);
                }
                store::moves_insert(tx, &made).await?;
                if game.is_over() {
                    results::count(tx, game).await?;
                }
                db::announce(tx, CHANNEL, *game.id.as_uuid());
                Ok(Some(login))
            });
            let login = login?;
            if let (Some(login), Some(player)) = (&login, joining) {
                let side = if game.x == Some(player.id) {
                    &mut view.x_login
                } else {
                    &mut view.o_login
                };
                side.clone_from(login);
            }
            login.is_some()
        };
        if written {
            if view.game.is_over() {
                counts::finished(&view.game);
            }
            counts::moved(made.len());
        }
        Ok(written)
    }

    /// Admits a user as a player and returns the player's current login. The row of the player
    /// stays locked until the transaction ends. Fails with [`Error::UserDeleted`] if the user was
    /// deleted.
    async fn admit(&self, tx: &mut Conn, player: &Player) -> Result<String, Error> {
        if self.rules.hears_of_names {
            // The login in the token may be older than the one from the feed.
            store::player_insert(tx, player.id, &player.login).await?;
        } else {
            store::player_called(tx, player.id, &player.login).await?;
        }
        let (login, is_deleted) = store::player_lock(tx, player.id).await?;
        if is_deleted {
            return Err(Error::UserDeleted);
        }
        Ok(login)
    }

    /// Fails with [`Error::TooManyGames`] if the player has reached the limit. The player's row
    /// must be locked, so that concurrent calls cannot exceed the limit.
    async fn ensure_may_play_another(&self, tx: &mut Conn, player: UserId) -> Result<(), Error> {
        let most = self.rules.max_running;
        // Overdue games do not count, even if they cannot be ended yet.
        if store::games_running_count(tx, player, self.clock.now()).await? >= i64::from(most) {
            return Err(Error::TooManyGames(most));
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
