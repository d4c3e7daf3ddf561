//! What is known at one point of the feed.

use std::{collections::HashMap, time::Duration};

use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};
use proto::auth::v1::{AccessEvent, GetJwksResponse, access_event::Event};

use super::{
    error::FeedError,
    position::{Epoch, FeedPosition},
};
use crate::{
    policy::Grants,
    token::{Jwks, Principal, TokenError},
};

/// Roles and live revocations. Times are those of the follower's own monotonic clock: it forgets
/// nothing because a clock was set, its own or another machine's.
#[derive(Clone, Debug)]
pub(super) struct FeedState {
    pub(super) grants: Grants,
    pub(super) position: Option<FeedPosition>,
    /// Until when each is refused.
    sessions: HashMap<SessionId, Duration>,
    users: HashMap<UserId, MinVersion>,
    lost: Lost,
    /// Before then there is nothing to forget.
    next_sweep: Duration,
}

impl Default for FeedState {
    fn default() -> Self {
        Self {
            grants: Grants::default(),
            position: None,
            sessions: HashMap::new(),
            users: HashMap::new(),
            lost: Lost::default(),
            next_sweep: NEVER,
        }
    }
}

/// Tokens with a lower `ver` are refused until then.
#[derive(Clone, Copy, Debug)]
struct MinVersion {
    version: i64,
    until: Duration,
}

/// Revocations that a snapshot lacks although they were known: the database went back to before
/// them. They go on for tokens that are older than that snapshot. Newer ones belong to the new
/// history, in which the user's token version may be lower than it was.
#[derive(Clone, Debug, Default)]
struct Lost {
    sessions: HashMap<SessionId, Ended>,
    users: HashMap<UserId, Outdated>,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    until: Duration,
    issued_before: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Outdated {
    min: MinVersion,
    issued_before: Timestamp,
}

/// Revocations and keys that were known and that the present history lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostRevocations {
    /// Sessions that ended.
    pub sessions: Vec<SessionId>,
    /// Users, and the least version that their tokens needed.
    pub users: Vec<(UserId, i64)>,
    /// The names of keys that were withdrawn and count again by the present history.
    pub keys: Vec<String>,
}

impl LostRevocations {
    /// Whether nothing is lost.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.users.is_empty() && self.keys.is_empty()
    }
}

/// The end of what has none.
const NEVER: Duration = Duration::MAX;

/// At least so long from one look at all revocations to the next.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// How long revocations are kept from a server that does not say: the default life of an access
/// token and what is added to it.
const KEPT_BY_DEFAULT: Duration = Duration::from_secs(1800 + 330);

/// How long the revocations of a message are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    now: Duration,
    life: Option<Duration>,
    server_time: Option<Timestamp>,
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

impl Keep {
    /// From `now` on by the monotonic clock, for the time that the message says.
    pub(super) fn new(now: Duration, revocation_seconds: i64, server_time: Option<Timestamp>) -> Self {
        let life = u64::try_from(revocation_seconds).ok().filter(|seconds| *seconds > 0);
        Self {
            now,
            life: life.map(Duration::from_secs),
            server_time,
        }
    }

    fn until(&self, event: &AccessEvent) -> Duration {
        // Only a test has a revocation without an end.
        let Some(expire_time) = event.expire_time.map(Timestamp::from) else {
            return NEVER;
        };
        let life = self.life.unwrap_or_else(|| {
            let left = self.server_time.map(|now| expire_time.since(now));
            left.unwrap_or_default().max(KEPT_BY_DEFAULT)
        });
        self.now.saturating_add(life)
    }
}

impl FeedState {
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
            position: Some(FeedPosition { epoch, sequence: 0 }),
            ..Self::default()
        }
    }

    pub(super) fn check(&self, principal: &Principal) -> Result<(), TokenError> {
        if let Some(id) = principal.session_id() {
            let lost = || self.lost.sessions.get(&id);
            if self.sessions.contains_key(&id) || lost().is_some_and(|lost| principal.issued_at() < lost.issued_before)
            {
                return Err(TokenError::Revoked);
            }
        }
        let (user, version) = (principal.user_id(), principal.token_version());
        let is_stale = self.users.get(&user).is_some_and(|min| version < min.version);
        let lost = || self.lost.users.get(&user);
        let was_stale =
            || lost().is_some_and(|lost| version < lost.min.version && principal.issued_at() < lost.issued_before);
        if is_stale || was_stale() {
            return Err(TokenError::Stale);
        }
        Ok(())
    }

    /// Whether this is about the same life of the feed and not about its past.
    pub(super) fn is_behind(&self, other: &Self) -> bool {
        match (self.position, other.position) {
            (Some(own), Some(others)) => own.epoch == others.epoch && own.sequence < others.sequence,
            _ => false,
        }
    }

    /// Whether this is a later point of the same life of the feed, or the same one.
    pub(super) fn goes_on_from(&self, before: FeedPosition) -> bool {
        self.position
            .is_some_and(|at| at.epoch == before.epoch && at.sequence >= before.sequence)
    }

    /// Keeps what was known before this snapshot, and what it lacks for tokens that were issued
    /// before this time.
    pub(super) fn keep_all(&mut self, before: Self, issued_before: Timestamp) {
        let lost = before.lost;
        for (id, until) in before.sessions {
            self.keep_session(id, Ended { until, issued_before });
        }
        for (id, ended) in lost.sessions {
            self.keep_session(id, ended);
        }
        for (id, min) in before.users {
            self.keep_user(id, Outdated { min, issued_before });
        }
        for (id, outdated) in lost.users {
            self.keep_user(id, outdated);
        }
    }

    fn keep_session(&mut self, id: SessionId, ended: Ended) {
        if let Some(until) = self.sessions.get_mut(&id) {
            // The snapshot may be of a database that keeps revocations for a shorter time.
            *until = (*until).max(ended.until);
        } else {
            self.next_sweep = self.next_sweep.min(ended.until);
            let kept = self.lost.sessions.entry(id).or_insert(ended);
            kept.until = kept.until.max(ended.until);
            kept.issued_before = kept.issued_before.max(ended.issued_before);
        }
    }

    fn keep_user(&mut self, id: UserId, outdated: Outdated) {
        let covers = |min: &&mut MinVersion| min.version >= outdated.min.version;
        if let Some(min) = self.users.get_mut(&id).filter(covers) {
            min.until = min.until.max(outdated.min.until);
        } else {
            self.next_sweep = self.next_sweep.min(outdated.min.until);
            let kept = self.lost.users.entry(id).or_insert(outdated);
            kept.min.version = kept.min.version.max(outdated.min.version);
            kept.min.until = kept.min.until.max(outdated.min.until);
            kept.issued_before = kept.issued_before.max(outdated.issued_before);
        }
    }

    /// Revocations that the present history lacks.
    pub(super) fn lost(&self) -> LostRevocations {
        LostRevocations {
            sessions: self.lost.sessions.keys().copied().collect(),
            users: (self.lost.users.iter())
                .map(|(id, outdated)| (*id, outdated.min.version))
                .collect(),
            keys: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, event: AccessEvent, keep: &Keep) -> Result<Effect, FeedError> {
        let until = keep.until(&event);
        // An event that this version does not know is about something that it does not do.
        let Some(event) = event.event else {
            return Ok(Effect::None);
        };
        Ok(match event {
            Event::SessionRevoked(revoked) => {
                let id: SessionId = revoked.session_id.parse().map_err(|_| FeedError::BadId("session_id"))?;
                let end = self.sessions.entry(id).or_insert(until);
                *end = until.max(*end);
                self.lost.sessions.remove(&id);
                self.next_sweep = self.next_sweep.min(until);
                Effect::Revoked
            }
            Event::UserTokensRevoked(revoked) => {
                let id: UserId = revoked.user_id.parse().map_err(|_| FeedError::BadId("user_id"))?;
                let version = revoked.min_version;
                let min = self.users.entry(id).or_insert(MinVersion { version, until });
                min.version = version.max(min.version);
                min.until = until.max(min.until);
                if self.lost.users.get(&id).is_some_and(|lost| lost.min.version <= version) {
                    self.lost.users.remove(&id);
                }
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

    /// Forgets what says nothing more at this time: at once where it was not looked at lately, else
    /// within a minute.
    pub(super) fn forget_before(&mut self, now: Duration) {
        if now < self.next_sweep {
            return;
        }
        let mut next = NEVER;
        let mut is_live = |until: Duration| {
            let is_live = until > now;
            if is_live {
                next = until.min(next);
            }
            is_live
        };
        self.sessions.retain(|_, until| is_live(*until));
        self.users.retain(|_, min| is_live(min.until));
        self.lost.sessions.retain(|_, ended| is_live(ended.until));
        self.lost.users.retain(|_, outdated| is_live(outdated.min.until));
        self.next_sweep = next.max(now.saturating_add(SWEEP_INTERVAL));
    }

    /// How many revocations are kept.
    pub(super) fn revocations(&self) -> usize {
        self.sessions.len() + self.users.len() + self.lost.sessions.len() + self.lost.users.len()
    }
}

#[cfg(test)]
mod tests {
    use proto::auth::v1::{SessionRevoked, UserTokensRevoked};

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Applies a revocation that is got so that it is kept until then.
    fn revoke(known: &mut FeedState, event: Event, until: Option<i64>) {
        let event = AccessEvent {
            expire_time: until.map(|_| Timestamp::from_micros(0).into()),
            event: Some(event),
            ..AccessEvent::default()
        };
        let keep = Keep::new(Duration::ZERO, until.unwrap_or(0), None);
        assert_eq!(known.apply(event, &keep).expect("applied"), Effect::Revoked);
    }

    fn session(id: SessionId) -> Event {
        Event::SessionRevoked(SessionRevoked {
            session_id: id.to_string(),
        })
    }

    #[test]
    fn what_says_nothing_more_is_forgotten_and_nothing_else() {
        let mut known = FeedState::default();
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
        // All are looked at after 10 s, when the first is over, then after a minute at the
        // earliest, and when the next one is over.
        assert_eq!(left, [4, 3, 3, 2, 2, 1]);
        // A new one that is over sooner is not waited for.
        revoke(&mut known, session(SessionId::generate()), Some(510));
        known.forget_before(at(510));
        assert_eq!(known.revocations(), 1);
    }

    #[test]
    fn a_snapshot_does_not_shorten_what_was_known() {
        let (mut before, mut snapshot) = (FeedState::default(), FeedState::default());
        let (id, user_id) = (SessionId::generate(), UserId::generate());
        let user = || {
            Event::UserTokensRevoked(UserTokensRevoked {
                user_id: user_id.to_string(),
                min_version: 3,
            })
        };
        for (known, seconds) in [(&mut before, 500), (&mut snapshot, 10)] {
            revoke(known, session(id), Some(seconds));
            revoke(known, user(), Some(seconds));
        }
        snapshot.keep_all(before, Timestamp::from_micros(0));
        snapshot.forget_before(at(499));
        assert_eq!(snapshot.revocations(), 2);
        snapshot.forget_before(at(600));
        assert_eq!(snapshot.revocations(), 0);
    }

    #[test]
    fn a_server_that_does_not_say_how_long_is_believed_only_where_that_is_longer() {
        let event = |seconds: i64| AccessEvent {
            expire_time: Some(Timestamp::from_micros(seconds * 1_000_000).into()),
            ..AccessEvent::default()
        };
        let keep = Keep::new(at(100), 0, Some(Timestamp::from_micros(0)));
        assert_eq!(keep.until(&event(7200)), at(100 + 7200));
        // Its clock is ahead, or the snapshot late.
        assert_eq!(keep.until(&event(-7200)), at(100 + 2130));
        assert_eq!(keep.until(&event(60)), at(100 + 2130));
        let told = Keep::new(at(100), 930, Some(Timestamp::from_micros(0)));
        assert_eq!(told.until(&event(7200)), at(100 + 930));
    }
}
