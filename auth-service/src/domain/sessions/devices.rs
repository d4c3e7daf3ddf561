//! The devices of a user: which of them are known, and how many sessions a user may have.

use base::{
    clock::{ALLOWANCE, Timestamp},
    ids::UserId,
};
use db::Conn;

use crate::{
    domain::{
        feed::Change,
        request_context::RequestContext,
        sessions::{ends::end, lifecycle::Sessions},
    },
    ids::DeviceId,
    model::{SessionEnd, User},
    store,
};

/// Number of recent sessions in which the device of a login is looked for.
const DEVICE_USES: i64 = 200;
/// Maximum number of ended sessions of a user that are kept. Each login reads them.
const MAX_ENDED: i64 = 500;

impl Sessions {
    /// Returns the device that this token names, if the user is known to use it. A session on it
    /// must be live, or must have ended normally and been used since the user was last logged out
    /// everywhere.
    ///
    /// Only as many devices are known as a user may have sessions. So someone who once knew a
    /// password cannot keep any number of devices, each with attempts of its own.
    pub(in crate::domain) async fn known_device(&self, user: &User, token: &str) -> db::Result<Option<DeviceId>> {
        let Some(device) = self.device_tokens.read(token, user.id) else {
            return Ok(None);
        };
        let is_known = self.is_known(&mut self.db.read().await?, user, device).await?;
        Ok(is_known.then_some(device))
    }

    /// Returns whether the user is known to use this device.
    pub(in crate::domain) async fn is_known(&self, conn: &mut Conn, user: &User, device: DeviceId) -> db::Result<bool> {
        let uses = store::device_uses(conn, user.id, DEVICE_USES).await?;
        let mut known = Vec::new();
        for used in uses {
            let is_peaceful = match used.end_reason {
                None => true,
                Some(SessionEnd::Logout | SessionEnd::Expired | SessionEnd::DeviceReplaced) => user
                    .force_logout_time
                    .is_none_or(|time| used.last_use_time > time.plus(ALLOWANCE)),
                Some(_) => false,
            };
            if is_peaceful && !known.contains(&used.device_id) {
                known.push(used.device_id);
            }
        }
        known.truncate(self.max_per_user);
        Ok(known.contains(&Some(device)))
    }

    /// Makes room for a new session on this device. Ends the session that the device had, sessions
    /// that are found to have expired, and the longest idle ones if there are too many.
    pub(in crate::domain) async fn make_room(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user_id: UserId,
        device: DeviceId,
        now: Timestamp,
    ) -> db::Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut others = Vec::new();
        let mut settled = None;
        for (session, on, expire_time) in store::sessions_unended(tx, user_id).await? {
            if settled.is_none() && now >= expire_time {
                settled = tx.settled(&self.clock).await?;
            }
            let reason = if on == Some(device) {
                SessionEnd::DeviceReplaced
            } else if settled.is_some_and(|settled| settled.past() >= expire_time) {
                SessionEnd::Expired
            } else {
                others.push(session);
                continue;
            };
            changes.push(end(tx, context, (session, user_id), reason, now).await?);
        }
        let too_many = (others.len() + 1).saturating_sub(self.max_per_user);
        for session in &others[..too_many.min(others.len())] {
            changes.push(end(tx, context, (*session, user_id), SessionEnd::SessionLimit, now).await?);
        }
        store::sessions_forget_ended(tx, user_id, MAX_ENDED).await?;
        Ok(changes)
    }
}
