//! The rule that users must verify their address before they log in, and since when it has been on.

use base::clock::{ALLOWANCE, Clock, Timestamp};
use db::{Db, write_tx};

use crate::{model::User, store};

/// The rule that users must verify their address before they log in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmailRequirement {
    /// Time when the rule was turned on.
    pub(super) since: Timestamp,
}

impl EmailRequirement {
    /// Reads when the rule was turned on, and stores it the first time. Forgets it if the rule is
    /// off. All replicas must have the same setting.
    pub(crate) async fn establish(db: &Db, clock: &Clock, is_on: bool) -> db::Result<Option<Self>> {
        let stored = store::email_requirement(&mut db.read().await?).await?;
        if !is_on {
            if stored.is_some() {
                let forgotten: db::Result<()> = write_tx!(db, |tx| store::email_requirement_delete(tx).await);
                forgotten?;
            }
            return Ok(None);
        }
        let since: db::Result<Timestamp> = write_tx!(db, |tx| {
            let now = clock.now();
            // A time in the future was stored by a clock that was wrong.
            let stored = store::email_requirement(tx).await?;
            if let Some(since) = stored.filter(|since| *since <= now.plus(ALLOWANCE)) {
                return Ok(since);
            }
            store::email_requirement_set(tx, now).await?;
            Ok(now)
        });
        Ok(Some(Self { since: since? }))
    }

    /// Returns whether the user registered before the rule was turned on.
    pub(super) fn is_from_before(self, user: &User) -> bool {
        user.create_time < self.since
    }
}
