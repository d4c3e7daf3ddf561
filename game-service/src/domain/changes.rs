//! Changes of games: moves, joins and ends. On PostgreSQL, changes that are made at the same time
//! are written together.
//!
//! Locks are taken in one order: players who join, then games, then the stats of the players of
//! games that end, each by id. A group takes no lock that it would have to wait for.

use std::collections::{BTreeMap, HashMap, HashSet};

use base::ids::UserId;
use db::{Conn, Db, GroupOutcome, GroupWriter, write_tx};
use uuid::Uuid;

use super::{
    Error, Game, Player,
    admission::{Admission, Admitted},
    results,
    watchers::CHANNEL,
};
use crate::{
    ids::GameId,
    store::{self, GameChange, ResultRow, StatsRow},
};

/// A change of a game.
#[derive(Debug)]
pub(super) struct Change {
    /// The game after the change.
    pub(super) game: Game,
    /// Version of the game before the change.
    pub(super) version: i64,
    /// Player who joins the game in this change.
    pub(super) joining: Option<Player>,
}

/// Outcome of a change.
#[derive(Debug)]
pub(super) enum Changed {
    /// The change is written.
    Written {
        /// Login of the player who has joined.
        joined_as: Option<String>,
    },
    /// Nothing is written, because the game has changed meanwhile.
    Outdated,
}

/// Writes changes of games.
#[derive(Debug)]
pub(super) struct ChangeWriter {
    pub(super) db: Db,
    pub(super) admission: Admission,
}

impl GroupWriter for ChangeWriter {
    type Write = Change;
    type Output = Changed;
    type Error = Error;

    fn rows(&self, change: &Change) -> Vec<Uuid> {
        let game = &change.game;
        let players = [game.x, game.o].into_iter().flatten().filter(|_| game.is_over());
        let players = players.chain(change.joining.as_ref().map(|player| player.id));
        let mut rows = vec![*game.id.as_uuid()];
        rows.extend(players.map(|id| *id.as_uuid()));
        rows
    }

    async fn write_alone(&self, change: &Change) -> Result<Changed, Error> {
        write_tx!(self.db, |tx| {
            let mut joined_as = None;
            if let Some(player) = &change.joining {
                let player = self.admission.admit(tx, player).await?;
                self.admission.ensure_room(&player)?;
                joined_as = Some(player.login);
            }
            let game = &change.game;
            if !store::game_update(tx, game.id, change.version, &game.to_update()).await? {
                return Ok(Changed::Outdated);
            }
            if game.is_over() {
                results::count(tx, game).await?;
            }
            db::announce(tx, CHANNEL, *game.id.as_uuid());
            Ok(Changed::Written { joined_as })
        })
    }

    async fn write_together(&self, changes: &[Change]) -> db::Result<Vec<Option<GroupOutcome<Self>>>> {
        // Usually all changes are moves that end no game. They need only one statement.
        if changes
            .iter()
            .all(|change| change.joining.is_none() && !change.game.is_over())
        {
            let rows: Vec<GameChange> = changes.iter().map(Change::row).collect();
            let written = store::games_change(&mut self.db.write().await?, &rows).await?;
            for id in &written {
                self.db.announce(CHANNEL, *id.as_uuid());
            }
            let outcome = |change: &Change| {
                let is_written = written.contains(&change.game.id);
                is_written.then_some(Ok(Changed::Written { joined_as: None }))
            };
            return Ok(changes.iter().map(outcome).collect());
        }
        write_tx!(self.db, |tx| self.write_all(tx, changes).await)
    }
}

impl ChangeWriter {
    async fn write_all(&self, tx: &mut Conn, changes: &[Change]) -> db::Result<Vec<Option<GroupOutcome<Self>>>> {
        let joining = changes.iter().filter_map(|change| change.joining.as_ref());
        let mut joining = self.admission.admit_together(tx, joining).await?;
        let mut prepared: Vec<_> = changes
            .iter()
            .map(|change| self.prepare(change, &mut joining))
            .collect();
        self.skip_locked_stats(tx, &mut prepared).await?;
        let rows = changes.iter().zip(&prepared);
        let rows: Vec<GameChange> = rows
            .filter(|(_, prepared)| matches!(prepared, Some(Ok(_))))
            .map(|(change, _)| change.row())
            .collect();
        let written = if rows.is_empty() {
            HashSet::new()
        } else {
            store::games_change(tx, &rows)
                .await?
                .into_iter()
                .collect::<HashSet<GameId>>()
        };
        let (mut outcomes, mut history, mut stats) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (change, prepared) in changes.iter().zip(prepared) {
            let id = change.game.id;
            outcomes.push(match prepared {
                Some(Ok(prepared)) if written.contains(&id) => {
                    history.extend(prepared.history);
                    stats.extend(prepared.stats.into_iter().map(|row| (row.user_id, row)));
                    db::announce(tx, CHANNEL, *id.as_uuid());
                    Some(Ok(Changed::Written {
                        joined_as: prepared.joined_as,
                    }))
                }
                Some(Err(error)) => Some(Err(error)),
                // The game is locked or has changed. Retried alone, the change waits for the lock
                // or fails.
                None | Some(Ok(_)) => None,
            });
        }
        if !history.is_empty() {
            store::results_insert_together(tx, &history).await?;
        }
        if !stats.is_empty() {
            // Each player's stats are in one row, as `stats_add_together` requires.
            let stats: Vec<StatsRow> = stats.into_values().collect();
            store::stats_add_together(tx, &stats).await?;
        }
        Ok(outcomes)
    }

    /// Leaves out changes that end games of players whose stats are locked, so that the others need
    /// not wait for them.
    async fn skip_locked_stats(
        &self,
        tx: &mut Conn,
        prepared: &mut [Option<Result<Prepared, Error>>],
    ) -> db::Result<()> {
        let ready = prepared.iter().filter_map(|it| it.as_ref()?.as_ref().ok());
        let mut users: Vec<UserId> = ready.flat_map(|it| &it.stats).map(|row| row.user_id).collect();
        if users.is_empty() {
            return Ok(());
        }
        users.sort_unstable();
        let locked = store::stats_lock_together(tx, &users).await?;
        for change in prepared {
            if let Some(Ok(ready)) = change
                && ready.stats.iter().any(|row| locked.contains(&row.user_id))
            {
                *change = None;
            }
        }
        Ok(())
    }

    /// Prepares the rows that are written with a change. Returns `None` if the player's row is
    /// locked.
    fn prepare(
        &self,
        change: &Change,
        joining: &mut HashMap<UserId, Result<Admitted, Error>>,
    ) -> Option<Result<Prepared, Error>> {
        let joined_as = match &change.joining {
            None => None,
            Some(player) => match joining.remove(&player.id)? {
                Ok(player) => match self.admission.ensure_room(&player) {
                    Ok(()) => Some(player.login),
                    Err(error) => return Some(Err(error)),
                },
                Err(error) => return Some(Err(error)),
            },
        };
        let history = if change.game.is_over() {
            results::results(&change.game)
        } else {
            Ok(Vec::new())
        };
        let prepared = history.and_then(|history| {
            let stats = history.iter().filter_map(|row| results::stats_of(row).transpose());
            let stats: Result<_, Error> = stats.collect();
            Ok(Prepared {
                joined_as,
                stats: stats?,
                history,
            })
        });
        Some(prepared)
    }
}

/// Rows that are written with a change.
struct Prepared {
    joined_as: Option<String>,
    history: Vec<ResultRow>,
    stats: Vec<StatsRow>,
}

impl Change {
    fn row(&self) -> GameChange {
        GameChange {
            id: self.game.id,
            version: self.version,
            update: self.game.to_update(),
        }
    }
}
