//! What is known at one point of the feed.

use std::{collections::HashMap, time::Duration};

use super::{Epoch, FeedError, Position};
use crate::{
    authz::Grants,
    clock::Timestamp,
    ids::{SessionId, UserId},
    proto::auth::v1::{AccessEvent, GetJwksResponse, access_event::Event},
    token::{Jwks, Principal, TokenError},
};

/// Roles and live revocations.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) grants: Grants,
    pub(super) position: Option<Position>,
    /// Until when each is refused.
    sessions: HashMap<SessionId, Timestamp>,
    users: HashMap<UserId, MinVersion>,
    /// Before then there is nothing to forget.
    next_sweep: Timestamp,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            grants: Grants::default(),
            position: None,
            sessions: HashMap::new(),
            users: HashMap::new(),
            next_sweep: NEVER,
        }
    }
}

/// Tokens with a lower `ver` are refused until then.
#[derive(Clone, Copy, Debug)]
struct MinVersion {
    version: i64,
    until: Timestamp,
}

/// The end of what has none.
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

/// At least so long from one look at all revocations to the next.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// What an event means beyond what is known here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing more.
    None,
    /// Tokens that were good may be refused, or what they are good for may be less.
    Revoked,
    /// These keys count.
    Keys(Jwks),
}

impl Known {
    /// Nothing but these grants.
    pub(super) fn of(grants: Grants) -> Self {
        Self {
            grants,
            ..Self::default()
        }
    }

    /// Nothing, in this life of the feed.
    pub(super) fn beginning(epoch: Epoch) -> Self {
        Self {
            position: Some(Position { epoch, sequence: 0 }),
            ..Self::default()
        }
    }

    pub(super) fn check(&self, principal: &Principal) -> Result<(), TokenError> {
        if let Some(id) = principal.session_id()
            && self.sessions.contains_key(&id)
        {
            return Err(TokenError::Revoked);
        }
        match self.users.get(&principal.user_id()) {
            Some(min) if principal.token_version() < min.version => Err(TokenError::Stale),
            _ => Ok(()),
        }
    }

    /// Whether this is about the same life of the feed and not about its past.
    pub(super) fn is_behind(&self, other: &Self) -> bool {
        match (self.position, other.position) {
            (Some(own), Some(others)) => own.epoch == others.epoch && own.sequence < others.sequence,
            _ => false,
        }
    }

    pub(super) fn apply(&mut self, event: AccessEvent) -> Result<Effect, FeedError> {
        let until = event.expire_time.map_or(NEVER, Timestamp::from);
        // An event that this version does not know is about something that it does not do.
        let Some(event) = event.event else {
            return Ok(Effect::None);
        };
        Ok(match event {
            Event::SessionRevoked(revoked) => {
                let id: SessionId = revoked.session_id.parse().map_err(|_| FeedError::BadId("session_id"))?;
                let end = self.sessions.entry(id).or_insert(until);
                *end = until.max(*end);
                self.next_sweep = self.next_sweep.min(until);
                Effect::Revoked
            }
            Event::UserTokensRevoked(revoked) => {
                let id: UserId = revoked.user_id.parse().map_err(|_| FeedError::BadId("user_id"))?;
                let version = revoked.min_version;
                let min = self.users.entry(id).or_insert(MinVersion { version, until });
                min.version = version.max(min.version);
                min.until = until.max(min.until);
                self.next_sweep = self.next_sweep.min(until);
                Effect::Revoked
            }
            Event::RoleChanged(role) if role.is_deleted => {
                self.grants.remove(&role.code_name);
                Effect::Revoked
            }
            Event::RoleChanged(role) => {
                let permissions = role.permissions.iter().map(String::as_str);
                self.grants.set(&role.code_name, permissions);
                Effect::Revoked
            }
            Event::KeysChanged(changed) => {
                let keys = GetJwksResponse { keys: changed.keys };
                Effect::Keys(keys.try_into().map_err(FeedError::BadKeys)?)
            }
            // Names are not part of what a token may do.
            Event::UserRenamed(_) | Event::UserDeleted(_) => Effect::None,
        })
    }

    /// Forgets what says nothing more at this time: at once where it was not looked at lately, else within a minute.
    pub(super) fn forget_before(&mut self, now: Timestamp) {
        if now < self.next_sweep {
            return;
        }
        let mut next = NEVER;
        let mut is_live = |until: Timestamp| {
            let is_live = until > now;
            if is_live {
                next = until.min(next);
            }
            is_live
        };
        self.sessions.retain(|_, until| is_live(*until));
        self.users.retain(|_, min| is_live(min.until));
        self.next_sweep = next.max(now.plus(SWEEP_INTERVAL));
    }

    /// How many revocations are kept.
    pub(super) fn revocations(&self) -> usize {
        self.sessions.len() + self.users.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::auth::v1::{SessionRevoked, UserTokensRevoked};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn revoke(known: &mut Known, event: Event, until: Option<i64>) {
        let event = AccessEvent {
            expire_time: until.map(|until| at(until).into()),
            event: Some(event),
            ..AccessEvent::default()
        };
        assert_eq!(known.apply(event).expect("applied"), Effect::Revoked);
    }

    fn session(id: SessionId) -> Event {
        Event::SessionRevoked(SessionRevoked {
            session_id: id.to_string(),
        })
    }

    #[test]
    fn what_says_nothing_more_is_forgotten_and_nothing_else() {
        let mut known = Known::default();
        let id = SessionId::generate();
        revoke(&mut known, session(SessionId::generate()), Some(10));
        let user = UserTokensRevoked {
            user_id: UserId::generate().to_string(),
            min_version: 3,
        };
        revoke(&mut known, Event::UserTokensRevoked(user), Some(20));
        // Revoked once more, it counts until the later of the two.
        revoke(&mut known, session(id), Some(15));
        revoke(&mut known, session(id), Some(500));
        revoke(&mut known, session(SessionId::generate()), None);
        let mut left = Vec::new();
        for seconds in [9, 10, 69, 70, 499, 500] {
            known.forget_before(at(seconds));
            left.push(known.revocations());
        }
        // All are looked at after 10 s, when the first is over, then after a minute at the earliest, and when the next one is over.
        assert_eq!(left, [4, 3, 3, 2, 2, 1]);
        // A new one that is over sooner is not waited for.
        revoke(&mut known, session(SessionId::generate()), Some(510));
        known.forget_before(at(510));
        assert_eq!(known.revocations(), 1);
    }
}
