//! The use cases of a game: create, look, join, move, give up.

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
    /// Games as they are read by themselves.
    pub(crate) played: Loader<ViewRequest, PlayedRows>,
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
    /// How many games of one player may be running, or wait for a second player.
    pub(crate) max_running: u32,
}

/// Player, as named by their access token.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    pub(crate) id: UserId,
    pub(crate) login: String,
}

/// How often a change is tried that others forestall.
const TRIES: usize = 10;

/// Query that page tokens of open games are bound to. It is the same for all callers.
const OPEN_GAMES: &str = "game.v1.GameService/ListOpenGames";

impl Games {
    /// Starts a game. Without a mark, the players' marks are drawn by lot. A request of the same id
    /// once more gives its game as it is now.
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
            // First, and locked by that: of two requests with one id the second finds the first
            // one's game.
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

    /// A game that the player may see.
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
        let resign = |game: &mut Game, moment| game.resign(player, moment).map(drop);
        self.change(id, Some(player), None, resign).await
    }

    /// Calls a game off that waits.
    pub(crate) async fn cancel(&self, player: UserId, id: GameId) -> Result<GameView, Error> {
        let cancel = |game: &mut Game, moment| game.cancel(player, moment).map(drop);
        self.change(id, Some(player), None, cancel).await
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
        self.change(id, Some(player), None, play).await
    }

    /// Takes the free side of a game.
    pub(crate) async fn join(&self, player: &Player, id: GameId) -> Result<GameView, Error> {
        let join = |game: &mut Game, moment| game.join(player.id, moment).map(drop);
        self.change(id, Some(player.id), Some(player), join).await
    }

    /// Ends a game whose time has run out, unless it has changed meanwhile.
    pub(super) async fn end_overdue(&self, id: GameId) -> Result<(), Error> {
        self.change(id, None, None, |_, _| Ok(())).await.map(drop)
    }

    /// Ends a game of a user who is no more.
    pub(super) async fn abandon(&self, user: UserId, id: GameId) -> Result<(), Error> {
        let abandon = |game: &mut Game, moment| {
            game.abandon(user, moment);
            Ok(())
        };
        self.change(id, None, None, abandon).await.map(drop)
    }

    /// Reads a game, ends it if its time has run out and the clock can be relied on, lets `act`
    /// change it, and writes what has changed if nobody else has changed the game meanwhile; else
    /// all of it again. What `act` refuses does not undo that the time has run out.
    ///
    /// For whoever may not see the game there is none. They are asked once: who comes after a game
    /// has started must not learn that there was one, who saw it wait and lost the race may.
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

    /// Writes a game that had this version and so many moves, and counts it once it is over. False
    /// where it has another version by now.
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

    /// Lets a user play, whose row stays locked until the transaction ends. Gives the login that
    /// they are known by.
    async fn admit(&self, tx: &mut Conn, player: &Player) -> Result<String, Error> {
        if self.rules.hears_of_names {
            // The login of the token may be older than what the feed has said.
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

    /// Refuses one more game of a player who has as many as they may. Their row is locked, so that
    /// of many calls at once none slips through.
    async fn ensure_may_play_another(&self, tx: &mut Conn, player: UserId) -> Result<(), Error> {
        let most = self.rules.max_running;
        // Overdue games are as good as over, though nobody can end them yet.
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
