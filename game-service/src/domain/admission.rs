//! Admission of players to games: who they are, and whether they may play another one.

use std::collections::HashMap;

use base::{clock::Clock, ids::UserId};
use db::Conn;

use super::{Error, PlayRules, Player};
use crate::store;

/// Lets players play.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    pub(super) clock: Clock,
    pub(super) rules: PlayRules,
}

/// A player whose row is locked until the transaction ends.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    /// Login by which the player is known.
    pub(super) login: String,
    /// Number of their unfinished games.
    pub(super) running: i64,
}

impl Admission {
    /// Registers and locks a player.
    pub(super) async fn admit(&self, tx: &mut Conn, player: &Player) -> Result<Admitted, Error> {
        if self.rules.logins_come_from_feed {
            // The login in the token may be older than the one from the feed.
            store::player_insert(tx, player.id, &player.login).await?;
        } else {
            store::player_upsert(tx, player.id, &player.login).await?;
        }
        let (login, is_deleted) = store::player_lock(tx, player.id).await?;
        if is_deleted {
            return Err(Error::UserDeleted);
        }
        // Overdue games count as finished, even if it is too early to end them.
        let running =
            store::games_running_count(tx, player.id, self.clock.now(), self.rules.max_running.into()).await?;
        Ok(Admitted { login, running })
    }

    /// Registers and locks several players at once. Leaves out those whose rows another transaction
    /// has locked.
    pub(super) async fn admit_together(
        &self,
        tx: &mut Conn,
        players: impl IntoIterator<Item = &Player>,
    ) -> db::Result<HashMap<UserId, Result<Admitted, Error>>> {
        let mut players: Vec<(UserId, &str)> = players
            .into_iter()
            .map(|player| (player.id, player.login.as_str()))
            .collect();
        if players.is_empty() {
            return Ok(HashMap::new());
        }
        players.sort_unstable();
        let mut locked = store::players_lock_together(tx, &players).await?;
        if !self.rules.logins_come_from_feed {
            let token_logins: HashMap<UserId, &str> = players.into_iter().collect();
            let mut renamed = Vec::new();
            for (id, login, is_deleted) in &mut locked {
                if let Some(&token_login) = token_logins.get(id)
                    && login.as_str() != token_login
                    && !*is_deleted
                {
                    token_login.clone_into(login);
                    renamed.push((*id, token_login));
                }
            }
            if !renamed.is_empty() {
                store::players_set_logins(tx, &renamed).await?;
            }
        }
        let ids: Vec<UserId> = locked.iter().map(|(id, ..)| *id).collect();
        let running = store::games_running_counts(tx, &ids, self.clock.now(), self.rules.max_running.into()).await?;
        let running: HashMap<UserId, i64> = running.into_iter().collect();
        let admit = |(id, login, is_deleted)| {
            let running = running.get(&id).copied().unwrap_or_default();
            let admitted = if is_deleted {
                Err(Error::UserDeleted)
            } else {
                Ok(Admitted { login, running })
            };
            (id, admitted)
        };
        Ok(locked.into_iter().map(admit).collect())
    }

    /// Refuses another game if the player has as many as allowed. Their row is locked, so that
    /// concurrent calls cannot exceed the limit.
    pub(super) fn ensure_room(&self, player: &Admitted) -> Result<(), Error> {
        let most = self.rules.max_running;
        if player.running >= i64::from(most) {
            return Err(Error::TooManyGames(most));
        }
        Ok(())
    }
}
