//! The devices that a user is known to use.

use base::clock::ALLOWANCE;
use db::{Conn, Db};

use crate::{
    domain::tokens::device::DeviceTokens,
    ids::DeviceId,
    model::{SessionEnd, User},
    store,
};

/// Number of recent sessions that are searched for the device of a login.
const DEVICE_USES: i64 = 200;
/// Maximum number of ended sessions of a user that are kept. Each login reads them.
pub(super) const MAX_ENDED: i64 = 500;

/// Finds out which devices a user is known to use.
#[derive(Clone, Debug)]
pub(crate) struct KnownDevices {
    pub(crate) db: Db,
    pub(crate) tokens: DeviceTokens,
    /// Maximum number of live sessions of a user.
    pub(crate) max_per_user: usize,
}

impl KnownDevices {
    /// Returns the device that this token names, if the user is known to use it. A session on it
    /// must be live, or must have ended normally and been used since the user was last logged out
    /// everywhere.
    ///
    /// Only as many devices are known as a user may have sessions. So someone who once knew a
    /// password cannot keep any number of devices, each with attempts of its own.
    pub(in crate::domain) async fn known_device(&self, user: &User, token: &str) -> db::Result<Option<DeviceId>> {
        let Some(device) = self.tokens.read(token, user.id) else {
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
}
