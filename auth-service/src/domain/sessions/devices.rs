//! How many sessions a user may have: one on each device, and only so many in all.

use base::{clock::Timestamp, ids::UserId};
use db::Conn;

use crate::{
    domain::{
        feed::Change,
        request_context::RequestContext,
        sessions::{ends::end, known_devices::MAX_ENDED, lifecycle::Sessions},
    },
    ids::DeviceId,
    model::SessionEnd,
    store,
};

impl Sessions {
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
        let too_many = (others.len() + 1).saturating_sub(self.devices.max_per_user);
        for session in &others[..too_many.min(others.len())] {
            changes.push(end(tx, context, (*session, user_id), SessionEnd::SessionLimit, now).await?);
        }
        store::sessions_forget_ended(tx, user_id, MAX_ENDED).await?;
        Ok(changes)
    }
}
