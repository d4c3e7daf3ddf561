//! Creation of games. On PostgreSQL, games that are created at the same time are created together.

use base::ids::UserId;
use db::{Db, GroupOutcome, GroupWriter, write_tx};
use uuid::Uuid;

use super::{
    Error, Game, GameView, Player,
    admission::{Admission, Admitted},
};
use crate::{
    ids::RequestId,
    rules::Mark,
    store::{self, ViewRequest},
};

/// Game to be created.
#[derive(Debug)]
pub(super) struct Creation {
    pub(super) game: Game,
    pub(super) creator: Player,
    /// Mark that the creator asked for.
    pub(super) mark: Option<Mark>,
    pub(super) request: Option<RequestId>,
}

/// Creates games.
#[derive(Debug)]
pub(super) struct CreationWriter {
    pub(super) db: Db,
    pub(super) admission: Admission,
}

impl GroupWriter for CreationWriter {
    type Write = Creation;
    type Output = GameView;
    type Error = Error;

    fn rows(&self, creation: &Creation) -> Vec<Uuid> {
        vec![*creation.creator.id.as_uuid()]
    }

    async fn write_alone(&self, creation: &Creation) -> Result<GameView, Error> {
        write_tx!(self.db, |tx| {
            // This comes first because it locks the player's row. Of two concurrent requests with
            // the same id, the second one then finds the game of the first.
            let creator = self.admission.admit(tx, &creation.creator).await?;
            if let Some(request) = creation.request
                && let Some(id) = store::game_by_request(tx, creation.creator.id, request).await?
            {
                let found = store::game_with_moves(tx, ViewRequest { game: id, user: None }).await?;
                return creation.repeated(GameView::of_played(found.ok_or(Error::GameNotFound(id))?)?);
            }
            self.admission.ensure_room(&creator)?;
            store::game_insert(tx, &creation.game.to_row(creation.request)).await?;
            Ok(creation.view(&creator))
        })
    }

    async fn write_together(&self, creations: &[Creation]) -> db::Result<Vec<Option<GroupOutcome<Self>>>> {
        write_tx!(self.db, |tx| {
            let creators = creations.iter().map(|creation| &creation.creator);
            let mut creators = self.admission.admit_together(tx, creators).await?;
            let requests: Vec<(UserId, RequestId)> = creations
                .iter()
                .filter_map(|creation| Some((creation.creator.id, creation.request?)))
                .collect();
            let known = if requests.is_empty() {
                Vec::new()
            } else {
                store::requests_known(tx, &requests).await?
            };
            let is_repeated = |creation: &Creation| {
                creation.request.is_some() && known.contains(&(creation.creator.id, creation.request))
            };
            let (mut rows, mut outcomes) = (Vec::new(), Vec::new());
            for creation in creations {
                let creator = creators.remove(&creation.creator.id);
                outcomes.push(match creator {
                    Some(Ok(creator)) if !is_repeated(creation) => {
                        let room = self.admission.ensure_room(&creator);
                        if room.is_ok() {
                            rows.push(creation.game.to_row(creation.request));
                        }
                        Some(room.map(|()| creation.view(&creator)))
                    }
                    Some(Err(error)) => Some(Err(error)),
                    // The player is locked, or the request is a repeat that creates no game.
                    None | Some(Ok(_)) => None,
                });
            }
            if !rows.is_empty() {
                store::games_insert_together(tx, &rows).await?;
            }
            Ok(outcomes)
        })
    }
}

impl Creation {
    /// Returns the new game as its creator sees it.
    fn view(&self, creator: &Admitted) -> GameView {
        let login_of = |side: Option<UserId>| side.map(|_| creator.login.clone()).unwrap_or_default();
        GameView {
            x_login: login_of(self.game.x),
            o_login: login_of(self.game.o),
            game: self.game.clone(),
        }
    }

    /// Answers a repeated request with the game that it has made, unless it asks for another one.
    fn repeated(&self, made: GameView) -> Result<GameView, Error> {
        let is_other = self
            .mark
            .is_some_and(|mark| made.game.mark_of(self.creator.id) != Some(mark));
        if made.game.opponent != self.game.opponent || is_other {
            return Err(Error::RequestIdReused);
        }
        Ok(made)
    }
}
