//! What is known at one point of the feed.

use std::collections::{BTreeSet, HashMap};

use super::{Epoch, FeedError, Position};
use crate::{
    authz::Grants,
    clock::Timestamp,
    ids::{SessionId, UserId},
    proto::auth::v1::{AccessEvent, GetJwksResponse, access_event::Event},
    token::{Jwks, Principal, TokenError},
};

/// Roles and live revocations.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) grants: Grants,
    pub(super) position: Option<Position>,
    sessions: HashMap<SessionId, Option<Timestamp>>,
    users: HashMap<UserId, MinVersion>,
    /// When each revocation says nothing more, the earliest first.
    expiries: BTreeSet<(Timestamp, Subject)>,
}

/// Tokens with a lower `ver` are refused until then.
#[derive(Clone, Copy, Debug)]
struct MinVersion {
    version: i64,
    until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Session(SessionId),
    User(UserId),
}

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
        let until = event.expire_time.map(Timestamp::from);
        // An event that this version does not know is about something that it does not do.
        let Some(event) = event.event else {
            return Ok(Effect::None);
        };
        Ok(match event {
            Event::SessionRevoked(revoked) => {
                let id: SessionId = revoked.session_id.parse().map_err(|_| FeedError::BadId("session_id"))?;
                let until = match self.sessions.get(&id) {
                    Some(before) => later(*before, until),
                    None => until,
                };
                self.sessions.insert(id, until);
                self.expires(until, Subject::Session(id));
                Effect::Revoked
            }
            Event::UserTokensRevoked(revoked) => {
                let id: UserId = revoked.user_id.parse().map_err(|_| FeedError::BadId("user_id"))?;
                let before = self.users.get(&id);
                let version = before.map_or(revoked.min_version, |min| min.version.max(revoked.min_version));
                let until = before.map_or(until, |min| later(min.until, until));
                self.users.insert(id, MinVersion { version, until });
                self.expires(until, Subject::User(id));
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

    /// Forgets what says nothing more at this time.
    pub(super) fn forget_before(&mut self, now: Timestamp) {
        while let Some(&(until, subject)) = self.expiries.first()
            && until <= now
        {
            self.expiries.pop_first();
            // It may have been revoked once more since, until later.
            match subject {
                Subject::Session(id) => {
                    if self.sessions.get(&id) == Some(&Some(until)) {
                        self.sessions.remove(&id);
                    }
                }
                Subject::User(id) => {
                    if self.users.get(&id).is_some_and(|min| min.until == Some(until)) {
                        self.users.remove(&id);
                    }
                }
            }
        }
    }

    /// How many revocations are kept.
    pub(super) fn revocations(&self) -> usize {
        self.sessions.len() + self.users.len()
    }

    fn expires(&mut self, until: Option<Timestamp>, subject: Subject) {
        if let Some(until) = until {
            self.expiries.insert((until, subject));
        }
    }
}

/// The later end of two revocations of one subject; none is the latest.
fn later(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    Some(one?.max(other?))
}
