//! The rule that users must verify their address before they log in, and since when it has been on.

use std::time::Duration;

use base::clock::{ALLOWANCE, Clock, Timestamp};
use db::{Db, write_tx};

use crate::{model::User, store};

/// Time for which the rule may be off before its start counts anew. It is off for a short time
/// while replicas are replaced one by one.
const SHORT_BREAK: Duration = Duration::from_hours(1);

/// The rule that users must verify their address before they log in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmailRequirement {
    /// Time when the rule was turned on.
    pub(super) since: Timestamp,
}

impl EmailRequirement {
    /// Reads when the rule was turned on, and stores it the first time, or after the rule was off
    /// for more than an hour. All replicas must have the same setting.
    pub(crate) async fn establish(db: &Db, clock: &Clock, is_on: bool) -> db::Result<Option<Self>> {
        let now = clock.now();
        if !is_on {
            let turned_off: db::Result<()> = write_tx!(db, |tx| store::email_requirement_turn_off(tx, now).await);
            turned_off?;
            return Ok(None);
        }
        let since: db::Result<Timestamp> = write_tx!(db, |tx| {
            if let Some((since, off)) = store::email_requirement(tx).await? {
                // A time in the future was stored by a clock that was wrong. A replica that was
                // started without the rule for a short time was a mistake, or not yet set up anew.
                let was_off = off.is_some_and(|off| off.plus(SHORT_BREAK) < now);
                if since <= now.plus(ALLOWANCE) && !was_off {
                    store::email_requirement_set(tx, since).await?;
                    return Ok(since);
                }
            }
            store::email_requirement_set(tx, now).await?;
            Ok(now)
        });
        Ok(Some(Self { since: since? }))
    }

    /// Returns the start of the time that the user has to verify an address from before the rule,
    /// or `None` if the address is newer. One from an import is from before, because the user had
    /// it in the other system.
    pub(super) fn grace_start(self, user: &User) -> Option<Timestamp> {
        match user.import_time {
            // The user has got no other address since.
            Some(imported) if user.email_set_time.is_none() => Some(self.since.max(imported)),
            _ => (email_time(user) < self.since).then_some(self.since),
        }
    }
}

/// Returns the time since when the user has had the address, which is not verified.
pub(super) fn email_time(user: &User) -> Timestamp {
    user.email_set_time.unwrap_or(user.create_time)
}
