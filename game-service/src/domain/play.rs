//! Use cases of games: create, read, list, join, move, resign and cancel.

use base::{
    clock::Clock,
    ids::UserId,
    page::{PageRequest, Position},
};
use db::{Db, GroupCommit, Loader};
use futures_util::FutureExt as _;

use super::{
    Error, Game, GameView, Opponent, PlayRules, Player,
    admission::Admission,
    changes::{Change, ChangeWriter, Changed},
    counts,
    creation::{Creation, CreationWriter},
    game::{Moment, MoveOutcome},
    watchers::Watchers,
};
use crate::{
    ids::{GameId, GameKind, RequestId},
    rules::{Cell, Mark},
    store::{self, GameRow, PlayedRows, ViewRequest},
};

/// The use cases of games.
#[derive(Clone, Debug)]
pub(crate) struct Games {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) watchers: Watchers,
    pub(crate) rules: PlayRules,
    /// Loader of single games. On PostgreSQL it combines concurrent reads into one statement.
    played: Loader<ViewRequest, PlayedRows>,
    creations: GroupCommit<CreationWriter>,
    changes: GroupCommit<ChangeWriter>,
}

/// Maximum number of attempts at a change while others keep changing the game first.
const MAX_ATTEMPTS: usize = 10;

/// Query that page tokens of open games are bound to. It is the same for all callers.
const OPEN_GAMES: &str = "game.v1.GameService/ListOpenGames";

impl Games {
    /// Returns the games in this database.
    pub(crate) fn new(db: &Db, clock: Clock, rules: PlayRules) -> Self {
        let admission = Admission {
            clock: clock.clone(),
            rules,
        };
        let creations = CreationWriter {
            db: db.clone(),
            admission: admission.clone(),
        };
        let changes = ChangeWriter {
            db: db.clone(),
            admission,
        };
        Self {
            db: db.clone(),
            clock,
            watchers: Watchers::default(),
            rules,
            played: Loader::new(db.clone(), |conn, requests| {
                store::games_with_moves(conn, requests).boxed()
            }),
            creations: GroupCommit::new(db, "creations", creations),
            changes: GroupCommit::new(db, "changes", changes),
        }
    }

    /// Creates a game. Without a mark, the creator's mark is chosen at random. A repeated request
    /// id returns the game that it created, in its current state.
    pub(crate) async fn create(
        &self,
        player: &Player,
        opponent: Opponent,
        mark: Option<Mark>,
        request: Option<RequestId>,
    ) -> Result<GameView, Error> {
        let drawn = mark.unwrap_or_else(|| if rand::random() { Mark::X } else { Mark::O });
        let mut game = Game::new(GameId::generate(), opponent, player.id, drawn, self.moment());
        if player.is_guest {
            game.unrank();
        }
        let id = game.id;
        let creation = Creation {
            game,
            creator: player.clone(),
            mark,
            request,
        };
        let view = self.creations.write(creation).await?;
        if view.game.id == id {
            counts::created(&view.game);
        }
        Ok(view)
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
        let play = |game: &mut Game, moment| {
            game.play(player, cell, expected_version, moment)
                .map(|_: MoveOutcome| ())
        };
        self.change(id, Some(player), None, play).await
    }

    /// Joins a game by taking its free side.
    pub(crate) async fn join(&self, player: &Player, id: GameId) -> Result<GameView, Error> {
        let join = |game: &mut Game, moment| {
            if game.join(player.id, moment)? && player.is_guest {
                game.unrank();
            }
            Ok(())
        };
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
    /// meanwhile, all of this is repeated, up to [`MAX_ATTEMPTS`] times.
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
        for _ in 0..MAX_ATTEMPTS {
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
            if view.game.is_overdue_by_any_clock(moment)
                && let Some(settled) = self.db.settled(&self.clock).await?
            {
                view.game.expire(Moment {
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

    /// Writes a changed game, given its previous version and number of moves. Returns false, and
    /// writes nothing, if the game no longer has that version.
    async fn write(
        &self,
        view: &mut GameView,
        (version, moves): (i64, usize),
        joining: Option<&Player>,
    ) -> Result<bool, Error> {
        let change = Change {
            game: view.game.clone(),
            version,
            joining: joining.cloned(),
        };
        let Changed::Written { joined_as } = self.changes.write(change).await? else {
            return Ok(false);
        };
        if let (Some(login), Some(player)) = (joined_as, joining) {
            let is_x = view.game.x == Some(player.id);
            *(if is_x { &mut view.x_login } else { &mut view.o_login }) = login;
        }
        if view.game.is_over() {
            counts::finished(&view.game);
        }
        counts::moved(view.game.moves.len().saturating_sub(moves));
        Ok(true)
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            open_for: self.rules.open_for,
            turn_for: self.rules.turn_for,
        }
    }
}
