//! Lifetimes of sessions.

use std::time::Duration;

use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};
use secrecy::SecretString;

use crate::{
    domain::{request_context::Origin, tokens::access::AccessToken},
    ids::DeviceId,
    model::Authentication,
    store::NewSession,
};

/// The lifetimes of sessions and their tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLifetimes {
    /// Lifetime of a refresh token that is not rotated.
    pub(crate) idle: Duration,
    /// Maximum lifetime of a session, however often it is rotated.
    pub(crate) absolute: Duration,
    /// How long after a rotation a refresh token can issue access tokens before it must be rotated.
    pub(crate) unrotated: Duration,
    /// How long a session is kept after it has ended or expired.
    pub(crate) retention: Duration,
}

/// The tokens of a session, which its client keeps.
#[derive(Debug)]
pub(crate) struct TokenPair {
    pub(crate) access: AccessToken,
    pub(crate) refresh_token: SecretString,
    pub(crate) refresh_expires_in: Duration,
}

impl SessionLifetimes {
    /// Makes a session that begins with this authentication, without storing it.
    pub(crate) fn begin(
        &self,
        user_id: UserId,
        device: DeviceId,
        origin: &Origin,
        authentication: &Authentication,
    ) -> NewSession {
        let now = authentication.time;
        let absolute_expire_time = now.plus(self.absolute);
        let expire_time = self.renewed(absolute_expire_time, now);
        NewSession {
            id: SessionId::generate(),
            user_id,
            counter: 1,
            is_used: false,
            create_time: now,
            rotate_time: now,
            expire_time,
            absolute_expire_time,
            device_id: Some(device),
            ip_address: origin.address_text(),
            user_agent: origin.user_agent.clone(),
            last_use_time: now,
            sweep_time: expire_time,
            auth_time: Some(now),
            auth_methods: Some(authentication.methods.as_str().to_owned()),
            acr: Some(authentication.acr.to_string()),
        }
    }

    /// Returns the expiry of a session that is rotated now. It is at most `absolute_expire_time`.
    pub(crate) fn renewed(&self, absolute_expire_time: Timestamp, now: Timestamp) -> Timestamp {
        now.plus(self.idle).min(absolute_expire_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn no_rotation_outlives_the_absolute_end() {
        let lifetimes = SessionLifetimes {
            idle: 1000 * SECOND,
            absolute: 9000 * SECOND,
            unrotated: SECOND,
            retention: SECOND,
        };
        assert_eq!(lifetimes.renewed(at(9000), at(1500)), at(2500));
        assert_eq!(lifetimes.renewed(at(9000), at(8500)), at(9000));
    }
}
