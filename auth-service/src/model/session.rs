//! A session, and the state of its refresh tokens.

use std::time::Duration;

use base::{
    clock::{ALLOWANCE, Timestamp},
    ids::{SessionId, UserId},
};
use db::text_enum;

use crate::model::Authentication;

/// How long after a rotation a retry with the same `request_id` gets the response again.
const RETRY_WINDOW: Duration = Duration::from_mins(1);
/// How long after a rotation a second call with the old token counts as a race, not as theft. The
/// [`ALLOWANCE`] is added, because the token may have been rotated by a process with a different
/// clock.
const OVERLAP_WINDOW: Duration = Duration::from_secs(10);

/// A session: one device on which a user is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user_id: UserId,
    /// Number of the current refresh token. Each rotation adds one.
    pub(crate) counter: i64,
    /// Whether the current refresh token has been used.
    pub(crate) is_used: bool,
    /// Digest of the `request_id` of the last rotation.
    pub(crate) rotation_request: Option<Vec<u8>>,
    pub(crate) rotate_time: Timestamp,
    pub(crate) expire_time: Timestamp,
    pub(crate) absolute_expire_time: Timestamp,
    /// End of the session; `None` while it is live.
    pub(crate) ended: Option<Ended>,
    pub(crate) create_time: Timestamp,
    pub(crate) ip_address: String,
    pub(crate) user_agent: String,
    pub(crate) last_use_time: Timestamp,
    /// Time and methods of the login.
    pub(crate) authentication: Authentication,
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) time: Timestamp,
    pub(crate) reason: SessionEnd,
}

text_enum! {
    /// Reason why a session ended.
    pub(crate) enum SessionEnd {
        /// The user logged out.
        Logout = "logout",
        /// An old refresh token was used again.
        RefreshTokenReused = "refresh_token_reused",
        /// The refresh token was not rotated in time.
        Expired = "expired",
        /// The user, or an administrator, ended it from elsewhere.
        Revoked = "revoked",
        /// The password changed.
        PasswordChanged = "password_changed",
        /// The user was deactivated.
        UserDeactivated = "user_deactivated",
        /// The user was deleted.
        UserDeleted = "user_deleted",
        /// The user had too many sessions.
        SessionLimit = "session_limit",
        /// The same device logged in again.
        DeviceReplaced = "device_replaced",
        /// The database was restored from a backup, or lost the end of the session in a fail-over.
        Restored = "restored",
    }
}

/// The state of a genuine refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenState {
    /// The token is the current one.
    Current,
    /// The token was replaced this long ago, and its successor has not been used. The response may
    /// have been lost, or two calls may have raced.
    JustReplaced(Duration),
    /// The token is an old one. Its sender is not the holder of the current token.
    Reused,
    /// The session was not rotated in time. Once this has been recorded, the session stays expired,
    /// whatever the clock says later.
    Expired,
    /// The session has ended.
    Ended,
}

/// Decision about a refresh token that was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// The token is current, and its successor replaces it.
    Rotate,
    /// The token is current and stays so, because the call is not a rotation.
    Keep,
    /// The call is a retry, and gets the response again that was lost.
    Repeat,
    /// The call is refused, because another call has just rotated the token.
    Overlap,
    /// The session is ended, because an old token was used.
    Reuse,
    /// The session is ended, because an old token was used, although its successor was not. Only
    /// the time that has passed tells this from a race, so it requires a clock that can be relied
    /// on. Another process with a different clock may have rotated the token, or the clock may have
    /// been set since.
    LateReuse,
    /// The call is refused, because the session has expired.
    Expired,
    /// The call is refused, because the session has ended.
    Ended,
}

impl Session {
    /// Returns the ids of the session and its user.
    pub(crate) const fn key(&self) -> (SessionId, UserId) {
        (self.id, self.user_id)
    }

    /// Returns whether the session has ended. An expired session ends once its expiry is recorded.
    pub(crate) const fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Returns the state of the refresh token with this counter. The time since the rotation is
    /// measured up to the arrival of the call, so that a wait for the database does not look like
    /// theft.
    pub(crate) fn token_state(&self, counter: i64, (arrival, now): (Timestamp, Timestamp)) -> TokenState {
        match self.ended {
            Some(Ended {
                reason: SessionEnd::Expired,
                ..
            }) => TokenState::Expired,
            Some(_) => TokenState::Ended,
            None if now >= self.expire_time => TokenState::Expired,
            None if counter == self.counter => TokenState::Current,
            None if counter == self.counter - 1 && !self.is_used => {
                TokenState::JustReplaced(arrival.min(now).since(self.rotate_time))
            }
            None => TokenState::Reused,
        }
    }

    /// Decides on a rotation of the token with this counter. `request` is the digest of the call's
    /// `request_id`, and `at` holds the time of its arrival and the present time.
    pub(crate) fn rotation(&self, counter: i64, request: Option<&[u8]>, at: (Timestamp, Timestamp)) -> Rotation {
        match self.token_state(counter, at) {
            TokenState::Current => Rotation::Rotate,
            TokenState::JustReplaced(age) => {
                let is_repeated = request.is_some() && request == self.rotation_request.as_deref();
                let window = if is_repeated { RETRY_WINDOW } else { OVERLAP_WINDOW };
                if is_repeated && age <= window {
                    Rotation::Repeat
                } else if age <= window + ALLOWANCE {
                    Rotation::Overlap
                } else {
                    Rotation::LateReuse
                }
            }
            TokenState::Reused => Rotation::Reuse,
            TokenState::Expired => Rotation::Expired,
            TokenState::Ended => Rotation::Ended,
        }
    }

    /// Decides on a use of the token with this counter that is not a rotation, and so cannot be the
    /// retry of one.
    pub(crate) fn use_without_rotation(&self, counter: i64, at: (Timestamp, Timestamp)) -> Rotation {
        match self.rotation(counter, None, at) {
            Rotation::Rotate => Rotation::Keep,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AuthMethods;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(0).plus(Duration::from_secs(seconds))
    }

    /// Returns a session that was rotated at 1000 s from counter 4 to 5, with the request `abc`.
    fn session() -> Session {
        Session {
            id: SessionId::generate(),
            user_id: UserId::generate(),
            counter: 5,
            is_used: false,
            rotation_request: Some(b"abc".to_vec()),
            rotate_time: at(1000),
            expire_time: at(2000),
            absolute_expire_time: at(9000),
            ended: None,
            create_time: at(0),
            ip_address: String::new(),
            user_agent: String::new(),
            last_use_time: at(1000),
            authentication: Authentication::new(at(0), AuthMethods::PASSWORD),
        }
    }

    #[test]
    fn a_call_that_waited_for_the_database_is_judged_by_its_arrival() {
        // The call arrived in time, but waited long for the database.
        assert_eq!(session().rotation(4, None, (at(1001), at(1500))), Rotation::Overlap);
        assert_eq!(session().rotation(4, None, (at(990), at(1500))), Rotation::Overlap);
        assert_eq!(
            session().rotation(4, Some(b"abc"), (at(1059), at(1500))),
            Rotation::Repeat
        );
        assert_eq!(session().rotation(4, None, (at(1041), at(1500))), Rotation::LateReuse);
        // A session that expired in the meantime is over.
        assert_eq!(session().rotation(5, None, (at(1999), at(2000))), Rotation::Expired);
    }

    #[test]
    fn retry_overlap_and_reuse_are_distinguished() {
        let unused = session();
        let used = Session {
            is_used: true,
            ..session()
        };
        let same: Option<&[u8]> = Some(b"abc");
        let other: Option<&[u8]> = Some(b"xyz");
        for (session, counter, request, now, expected) in [
            (&unused, 5, same, 1000, Rotation::Rotate),
            (&used, 5, None, 1999, Rotation::Rotate),
            // Retry: the same request, within 60 s, the successor unused.
            (&unused, 4, same, 1000, Rotation::Repeat),
            (&unused, 4, same, 1060, Rotation::Repeat),
            (&unused, 4, same, 1061, Rotation::Overlap),
            (&unused, 4, same, 1090, Rotation::Overlap),
            (&unused, 4, same, 1091, Rotation::LateReuse),
            (&used, 4, same, 1001, Rotation::Reuse),
            // Overlap: any other request, within 10 s and the allowance of 30 s, the successor
            // unused.
            (&unused, 4, other, 1010, Rotation::Overlap),
            (&unused, 4, None, 1040, Rotation::Overlap),
            (&unused, 4, other, 1041, Rotation::LateReuse),
            (&used, 4, None, 1001, Rotation::Reuse),
            // The clock was set back, or the racing call read it before the rotation.
            (&unused, 4, None, 990, Rotation::Overlap),
            // An older token, or one from before the database was restored from a backup.
            (&unused, 3, same, 1000, Rotation::Reuse),
            (&unused, 6, same, 1000, Rotation::Reuse),
            (&unused, 5, same, 2000, Rotation::Expired),
            (&unused, 4, same, 2000, Rotation::Expired),
        ] {
            assert_eq!(
                session.rotation(counter, request, (at(now), at(now))),
                expected,
                "counter {counter} at {now}"
            );
        }
    }

    #[test]
    fn a_session_recorded_as_expired_stays_expired() {
        let session = Session {
            ended: Some(Ended {
                time: at(2000),
                reason: SessionEnd::Expired,
            }),
            ..session()
        };
        for counter in [3, 4, 5] {
            assert_eq!(session.rotation(counter, None, (at(1500), at(1500))), Rotation::Expired);
        }
    }

    #[test]
    fn a_rotation_without_a_request_id_cannot_be_retried() {
        let session = Session {
            rotation_request: None,
            ..session()
        };
        assert_eq!(session.rotation(4, None, (at(1041), at(1041))), Rotation::LateReuse);
    }

    #[test]
    fn an_ended_session_stays_ended() {
        let session = Session {
            ended: Some(Ended {
                time: at(1500),
                reason: SessionEnd::Logout,
            }),
            ..session()
        };
        for counter in [3, 4, 5, 6] {
            assert_eq!(session.rotation(counter, None, (at(1001), at(1001))), Rotation::Ended);
        }
    }

    #[test]
    fn a_use_without_rotation_keeps_the_current_token_and_is_never_a_retry() {
        let now = (at(1001), at(1001));
        assert_eq!(session().use_without_rotation(5, now), Rotation::Keep);
        assert_eq!(session().use_without_rotation(4, now), Rotation::Overlap);
        assert_eq!(session().use_without_rotation(3, now), Rotation::Reuse);
    }
}
