//! State of the view at one position of the feed.

use std::{collections::HashMap, time::Duration};

use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};
use proto::auth::v1::{AccessEvent, GetJwksResponse, access_event::Event};

use super::{error::FeedError, position::FeedPosition};
use crate::{
    policy::Grants,
    token::{Jwks, Principal, TokenError},
};

/// Roles and unexpired revocations. Times are those of this process's monotonic clock, so that no
/// revocation is forgotten because a clock was set, here or on another machine.
#[derive(Clone, Debug)]
pub(super) struct FeedState {
    pub(super) grants: Grants,
    pub(super) position: Option<FeedPosition>,
    /// Ended sessions, each with the time until which its tokens are refused.
    sessions: HashMap<SessionId, Duration>,
    users: HashMap<UserId, MinVersion>,
    lost: LostState,
    /// Time before which there is no sweep for expired revocations.
    next_sweep: Duration,
}

impl Default for FeedState {
    fn default() -> Self {
        Self {
            grants: Grants::default(),
            position: None,
            sessions: HashMap::new(),
            users: HashMap::new(),
            lost: LostState::default(),
            next_sweep: NEVER,
        }
    }
}

/// Lowest accepted `ver` of a user's tokens. Tokens with a lower one are refused until the
/// monotonic time `until`.
#[derive(Clone, Copy, Debug)]
struct MinVersion {
    version: i64,
    until: Duration,
}

/// Revocations that were known and that a snapshot lacks, because the database was restored to an
/// earlier state.
///
/// They remain in force for tokens that are older than that snapshot. Newer tokens belong to the
/// new history, in which the user's token version may be lower than before.
#[derive(Clone, Debug, Default)]
struct LostState {
    sessions: HashMap<SessionId, LostSessionEnd>,
    users: HashMap<UserId, LostMinVersion>,
}

#[derive(Clone, Copy, Debug)]
struct LostSessionEnd {
    until: Duration,
    issued_before: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct LostMinVersion {
    min: MinVersion,
    issued_before: Timestamp,
}

/// Revocations and key withdrawals that were known and that the current history lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostRevocations {
    /// Sessions that had ended.
    pub sessions: Vec<SessionId>,
    /// Users, each with the lowest version that their tokens needed.
    pub users: Vec<(UserId, i64)>,
    /// Ids of keys that were withdrawn and that the current history offers again.
    pub keys: Vec<String>,
}

impl LostRevocations {
    /// Returns whether nothing is lost.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.users.is_empty() && self.keys.is_empty()
    }
}

/// Expiry of a revocation that does not expire.
const NEVER: Duration = Duration::MAX;

/// Shortest time between two sweeps of all revocations, unless a new revocation expires sooner.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Shortest time that revocations are kept if the server does not say how long: the default life of
/// an access token, plus a margin.
const DEFAULT_RETENTION: Duration = Duration::from_secs(1800 + 330);

/// Retention of the revocations in one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    now: Duration,
    life: Option<Duration>,
    server_time: Option<Timestamp>,
}

/// Effect of an event beyond the [`FeedState`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// No further effect.
    None,
    /// Tokens that were accepted may now be refused, or may grant less.
    Revoked,
    /// These are now the verification keys.
    Keys(Jwks),
}

impl Retention {
    /// Creates the retention for a message that was received at `now` by the monotonic clock.
    /// `revocation_seconds` is the retention that the message states, or 0 if it states none.
    pub(super) fn new(now: Duration, revocation_seconds: i64, server_time: Option<Timestamp>) -> Self {
        let life = u64::try_from(revocation_seconds).ok().filter(|seconds| *seconds > 0);
        Self {
            now,
            life: life.map(Duration::from_secs),
            server_time,
        }
    }

    fn until(&self, event: &AccessEvent) -> Duration {
        // Only tests have revocations without an expiry.
        let Some(expire_time) = event.expire_time.map(Timestamp::from) else {
            return NEVER;
        };
        let life = self.life.unwrap_or_else(|| {
            let left = self.server_time.map(|now| expire_time.since(now));
            left.unwrap_or_default().max(DEFAULT_RETENTION)
        });
        self.now.saturating_add(life)
    }
}

impl FeedState {
    /// Creates a state with these grants and no revocations.
    pub(super) fn of(grants: Grants) -> Self {
        Self {
            grants,
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

    /// Returns whether this state is at an earlier position than `other`, in the same epoch.
    pub(super) fn is_behind(&self, other: &Self) -> bool {
        match (self.position, other.position) {
            (Some(own), Some(others)) => own.epoch == others.epoch && own.sequence < others.sequence,
            _ => false,
        }
    }

    /// Returns whether this state is at the same or a later position than `before`, in the same
    /// epoch.
    pub(super) fn continues_from(&self, before: FeedPosition) -> bool {
        self.position
            .is_some_and(|at| at.epoch == before.epoch && at.sequence >= before.sequence)
    }

    /// Carries over the revocations that were known before this snapshot. A revocation that the
    /// snapshot lacks then applies only to tokens issued before `issued_before`.
    pub(super) fn carry_over_revocations(&mut self, before: Self, issued_before: Timestamp) {
        let lost = before.lost;
        for (id, until) in before.sessions {
            self.keep_session(id, LostSessionEnd { until, issued_before });
        }
        for (id, ended) in lost.sessions {
            self.keep_session(id, ended);
        }
        for (id, min) in before.users {
            self.keep_user(id, LostMinVersion { min, issued_before });
        }
        for (id, outdated) in lost.users {
            self.keep_user(id, outdated);
        }
    }

    fn keep_session(&mut self, id: SessionId, ended: LostSessionEnd) {
        if let Some(until) = self.sessions.get_mut(&id) {
            // The snapshot may come from a database that keeps revocations for a shorter time.
            *until = (*until).max(ended.until);
        } else {
            self.next_sweep = self.next_sweep.min(ended.until);
            let kept = self.lost.sessions.entry(id).or_insert(ended);
            kept.until = kept.until.max(ended.until);
            kept.issued_before = kept.issued_before.max(ended.issued_before);
        }
    }

    fn keep_user(&mut self, id: UserId, outdated: LostMinVersion) {
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

    /// Returns the revocations that the current history lacks. The list of keys is empty.
    pub(super) fn lost(&self) -> LostRevocations {
        LostRevocations {
            sessions: self.lost.sessions.keys().copied().collect(),
            users: (self.lost.users.iter())
                .map(|(id, outdated)| (*id, outdated.min.version))
                .collect(),
            keys: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, event: AccessEvent, retention: &Retention) -> Result<Effect, FeedError> {
        let until = retention.until(&event);
        // An event that this version does not know concerns a feature that it does not have.
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
            // Names do not affect what a token allows.
            Event::UserRenamed(_) | Event::UserDeleted(_) => Effect::None,
        })
    }

    /// Drops revocations that have expired by this time. It does so at once if the last sweep is a
    /// minute old, and otherwise within a minute.
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

    /// Returns the number of revocations that are kept.
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

    /// Applies a revocation that is kept until this second, or for ever.
    fn revoke(known: &mut FeedState, event: Event, until: Option<i64>) {
        let event = AccessEvent {
            expire_time: until.map(|_| Timestamp::from_micros(0).into()),
            event: Some(event),
            ..AccessEvent::default()
        };
        let retention = Retention::new(Duration::ZERO, until.unwrap_or(0), None);
        assert_eq!(known.apply(event, &retention).expect("applied"), Effect::Revoked);
    }

    fn session(id: SessionId) -> Event {
        Event::SessionRevoked(SessionRevoked {
            session_id: id.to_string(),
        })
    }

    #[test]
    fn only_expired_revocations_are_forgotten() {
        let mut known = FeedState::default();
        let id = SessionId::generate();
        revoke(&mut known, session(SessionId::generate()), Some(10));
        let user = UserTokensRevoked {
            user_id: UserId::generate().to_string(),
            min_version: 3,
        };
        revoke(&mut known, Event::UserTokensRevoked(user), Some(20));
        // A session that is revoked twice stays refused until the later of the two times.
        revoke(&mut known, session(id), Some(15));
        revoke(&mut known, session(id), Some(500));
        revoke(&mut known, session(SessionId::generate()), None);
        let mut left = Vec::new();
        for seconds in [9, 10, 69, 70, 499, 500] {
            known.forget_before(at(seconds));
            left.push(known.revocations());
        }
        // The first sweep is at 10 s, when the first revocation expires. The next sweep is a minute
        // later at the earliest, and then when the next revocation expires.
        assert_eq!(left, [4, 3, 3, 2, 2, 1]);
        // A new revocation that expires sooner brings the next sweep forward.
        revoke(&mut known, session(SessionId::generate()), Some(510));
        known.forget_before(at(510));
        assert_eq!(known.revocations(), 1);
    }

    #[test]
    fn a_snapshot_does_not_shorten_known_revocations() {
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
        snapshot.carry_over_revocations(before, Timestamp::from_micros(0));
        snapshot.forget_before(at(499));
        assert_eq!(snapshot.revocations(), 2);
        snapshot.forget_before(at(600));
        assert_eq!(snapshot.revocations(), 0);
    }

    #[test]
    fn without_a_stated_retention_only_a_longer_expiry_is_believed() {
        let event = |seconds: i64| AccessEvent {
            expire_time: Some(Timestamp::from_micros(seconds * 1_000_000).into()),
            ..AccessEvent::default()
        };
        let retention = Retention::new(at(100), 0, Some(Timestamp::from_micros(0)));
        assert_eq!(retention.until(&event(7200)), at(100 + 7200));
        // The server's clock is ahead, or the snapshot is late.
        assert_eq!(retention.until(&event(-7200)), at(100 + 2130));
        assert_eq!(retention.until(&event(60)), at(100 + 2130));
        let stated = Retention::new(at(100), 930, Some(Timestamp::from_micros(0)));
        assert_eq!(stated.until(&event(7200)), at(100 + 930));
    }
}
