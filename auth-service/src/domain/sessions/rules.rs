//! How a session lives: what a refresh token of it is worth at a moment. Pure; the transactions are in `sessions`.

use std::time::Duration;

use base::{
    clock::{ALLOWANCE, Timestamp},
    ids::{SessionId, UserId},
};
use secrecy::SecretString;

use crate::{
    domain::{request_context::Origin, tokens::access::AccessToken},
    ids::DeviceId,
    store::{self, SessionEnd},
};

/// A retry with the same `request_id` gets the same pair for this long.
const RETRY_WINDOW: Duration = Duration::from_mins(1);
/// A second call with a token that was just rotated is taken for a race, not for theft, for this long, and
/// for the [`ALLOWANCE`] by which the clock of the process that rotated it may differ.
const OVERLAP_WINDOW: Duration = Duration::from_secs(10);

/// How long sessions and their tokens live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLives {
    /// A refresh token, unless it is rotated.
    pub(crate) idle: Duration,
    /// A session, however often it is rotated.
    pub(crate) absolute: Duration,
    /// How long after a rotation a refresh token gives access tokens without being rotated.
    pub(crate) unrotated: Duration,
    /// How long a session is kept once it has ended or expired.
    pub(crate) kept: Duration,
}

/// What a client keeps of a session.
#[derive(Debug)]
pub(crate) struct TokenPair {
    pub(crate) access: AccessToken,
    pub(crate) refresh_token: SecretString,
    pub(crate) refresh_expires_in: Duration,
}

/// What a genuine refresh token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the current one.
    Current,
    /// It was replaced this long ago, and its successor has not been used: the answer may have been lost, or two calls
    /// may have met.
    JustReplaced(Duration),
    /// It is an old one: whoever sends it is not whoever holds the current one.
    Reused,
    /// The session was not rotated in time. Once that was seen it stays so, whatever the clock says later.
    Expired,
    /// The session has ended.
    Ended,
}

/// What a rotation does with the token that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// Replaces it.
    Rotate,
    /// Gives the answer again that was lost.
    Repeat,
    /// Nothing: another call has just rotated it.
    Overlap,
    /// Ends the session.
    Reuse,
    /// Ends the session as well, but only the time says so: the successor was not used. It was
    /// rotated by another process, perhaps, whose clock may differ, or before the clock was set.
    LateReuse,
    /// Nothing: it is over.
    Expired,
    /// Nothing: it is over.
    Ended,
}

impl store::Session {
    /// What the refresh token with this counter is worth now. How long ago it was replaced is counted to when the call arrived: one that had
    /// to wait for the database is no theft.
    pub(crate) fn standing(&self, counter: i64, (arrival, now): (Timestamp, Timestamp)) -> Standing {
        if self.end_reason == Some(SessionEnd::Expired) {
            Standing::Expired
        } else if self.end_time.is_some() {
            Standing::Ended
        } else if now >= self.expire_time {
            Standing::Expired
        } else if counter == self.counter {
            Standing::Current
        } else if counter == self.counter - 1 && !self.is_used {
            Standing::JustReplaced(arrival.min(now).since(self.rotate_time))
        } else {
            Standing::Reused
        }
    }

    /// What to do with a rotation of the token with this counter. `request` is the digest of its `request_id`.
    pub(crate) fn rotation(&self, counter: i64, request: Option<&[u8]>, at: (Timestamp, Timestamp)) -> Rotation {
        match self.standing(counter, at) {
            Standing::Current => Rotation::Rotate,
            Standing::JustReplaced(age)
                if age <= RETRY_WINDOW && request.is_some() && request == self.rotation_request.as_deref() =>
            {
                Rotation::Repeat
            }
            Standing::JustReplaced(age) => {
                let is_repeated = request.is_some() && request == self.rotation_request.as_deref();
                let window = if is_repeated { RETRY_WINDOW } else { OVERLAP_WINDOW };
                if age <= window + ALLOWANCE {
                    Rotation::Overlap
                } else {
                    Rotation::LateReuse
                }
            }
            Standing::Reused => Rotation::Reuse,
            Standing::Expired => Rotation::Expired,
            Standing::Ended => Rotation::Ended,
        }
    }

    /// What a use other than rotation makes of the token: like a rotation that is never a retry.
    pub(crate) fn use_without_rotation(&self, counter: i64, at: (Timestamp, Timestamp)) -> Rotation {
        self.rotation(counter, None, at)
    }
}

impl SessionLives {
    /// A session that begins now.
    pub(crate) fn begin(
        &self,
        user_id: UserId,
        device: DeviceId,
        origin: &Origin,
        now: Timestamp,
    ) -> store::NewSession {
        let absolute_expire_time = now.plus(self.absolute);
        store::NewSession {
            id: SessionId::generate(),
            user_id,
            counter: 1,
            is_used: false,
            create_time: now,
            rotate_time: now,
            expire_time: now.plus(self.idle).min(absolute_expire_time),
            absolute_expire_time,
            device_id: Some(device),
            ip_address: origin.address_text(),
            user_agent: origin.user_agent.clone(),
            last_use_time: now,
        }
    }

    /// When the session expires that is rotated now.
    pub(crate) fn renewed(&self, session: &store::Session, now: Timestamp) -> Timestamp {
        now.plus(self.idle).min(session.absolute_expire_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(0).plus(Duration::from_secs(seconds))
    }

    /// Rotated at 1000 s from counter 4 to 5, with the request `abc`.
    fn session() -> store::Session {
        store::Session {
            id: SessionId::generate(),
            user_id: UserId::generate(),
            counter: 5,
            is_used: false,
            rotation_request: Some(b"abc".to_vec()),
            rotate_time: at(1000),
            expire_time: at(2000),
            absolute_expire_time: at(9000),
            end_time: None,
            end_reason: None,
            create_time: at(0),
            ip_address: String::new(),
            user_agent: String::new(),
            last_use_time: at(1000),
        }
    }

    #[test]
    fn who_had_to_wait_for_the_database_is_no_thief() {
        // It arrived within the time, and its turn came long after.
        assert_eq!(session().rotation(4, None, (at(1001), at(1500))), Rotation::Overlap);
        assert_eq!(session().rotation(4, None, (at(990), at(1500))), Rotation::Overlap);
        assert_eq!(
            session().rotation(4, Some(b"abc"), (at(1059), at(1500))),
            Rotation::Repeat
        );
        assert_eq!(session().rotation(4, None, (at(1041), at(1500))), Rotation::LateReuse);
        // What has expired meanwhile is over.
        assert_eq!(session().rotation(5, None, (at(1999), at(2000))), Rotation::Expired);
    }

    #[test]
    fn the_three_cases_of_an_old_token_are_told_apart() {
        let unused = session();
        let used = store::Session {
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
            // Overlap: any other request, within 10 s, the successor unused.
            (&unused, 4, other, 1010, Rotation::Overlap),
            (&unused, 4, None, 1040, Rotation::Overlap),
            (&unused, 4, other, 1041, Rotation::LateReuse),
            (&used, 4, None, 1001, Rotation::Reuse),
            // The clock was set back, or the racer read it first.
            (&unused, 4, None, 990, Rotation::Overlap),
            // Older, or from a database that was put back.
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
    fn a_session_that_was_seen_to_have_expired_stays_so() {
        let session = store::Session {
            end_time: Some(at(2000)),
            end_reason: Some(SessionEnd::Expired),
            ..session()
        };
        for counter in [3, 4, 5] {
            assert_eq!(session.rotation(counter, None, (at(1500), at(1500))), Rotation::Expired);
        }
    }

    #[test]
    fn a_session_without_a_request_id_knows_no_retry() {
        let session = store::Session {
            rotation_request: None,
            ..session()
        };
        assert_eq!(session.rotation(4, None, (at(1041), at(1041))), Rotation::LateReuse);
    }

    #[test]
    fn an_ended_session_stays_ended() {
        let session = store::Session {
            end_time: Some(at(1500)),
            ..session()
        };
        for counter in [3, 4, 5, 6] {
            assert_eq!(session.rotation(counter, None, (at(1001), at(1001))), Rotation::Ended);
        }
    }

    #[test]
    fn no_rotation_outlives_the_absolute_end() {
        let lives = SessionLives {
            idle: 1000 * SECOND,
            absolute: 9000 * SECOND,
            unrotated: SECOND,
            kept: SECOND,
        };
        assert_eq!(lives.renewed(&session(), at(1500)), at(2500));
        assert_eq!(lives.renewed(&session(), at(8500)), at(9000));
    }
}
