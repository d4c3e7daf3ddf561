//! View that every request consults for its verification and authorization.

use std::{fmt, sync::Arc, time::Duration};

use base::clock::Clock;
use tokio::sync::watch;

use super::{
    AccessIntake,
    feed_state::{FeedState, LostRevocations},
    position::FeedPosition,
    shared::{self, Shared},
    silence_rule::SilenceRule,
};
use crate::{
    policy::{Grants, Permission, StepUp},
    token::{KeySet, Principal, TokenError},
};

/// Current revocations, and the permissions that each role holds. Clones share the state. Look-ups
/// do not allocate, and wait only for short critical sections.
#[derive(Clone)]
pub struct AccessView {
    shared: Arc<Shared>,
    silence: SilenceRule,
}

/// Reason why a caller who was admitted is refused now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The token is no longer valid.
    Token(TokenError),
    /// The caller no longer holds the permission.
    Permission,
}

impl AccessView {
    /// Creates the view of a service that does not follow the feed. Another task supplies the keys.
    /// The view uses these grants, and learns of no revocations.
    pub fn offline(keys: KeySet, grants: Grants, clock: Clock) -> Self {
        Self::new(FeedState::of(grants), keys, clock, false)
    }

    /// Creates the view of a service that follows the feed, and takes its keys from there. Nothing
    /// is allowed before the first snapshot. Revocations expire by the monotonic side of this
    /// clock.
    pub fn following(keys: KeySet, clock: Clock) -> Self {
        shared::describe_metrics();
        Self::new(FeedState::default(), keys, clock, true)
    }

    /// Sets the rule for a silent feed, in this clone and in the clones made from it.
    pub fn with_silence(mut self, rule: SilenceRule) -> Self {
        self.silence = rule;
        self
    }

    /// Creates an intake for the messages of one stream. Every stream needs its own, from its first
    /// message on.
    pub fn intake(&self) -> AccessIntake {
        AccessIntake::new(Arc::clone(&self.shared))
    }

    /// Checks that the token of this principal has not been revoked.
    ///
    /// # Errors
    ///
    /// [`TokenError::Revoked`] if its session has ended, and [`TokenError::Stale`] if its user has
    /// changed since it was issued.
    pub fn check(&self, principal: &Principal) -> Result<(), TokenError> {
        self.shared.read().known.check(principal)
    }

    /// Returns whether this principal holds the permission.
    pub fn allow(&self, principal: &Principal, permission: &Permission) -> bool {
        self.is_loaded() && self.shared.read().known.grants.allow(principal, permission)
    }

    /// Returns whether the login of this principal is as recent and as strong as required.
    pub fn meets(&self, principal: &Principal, required: StepUp) -> bool {
        required.is_met_by(principal, &self.shared.clock)
    }

    /// Returns whether everything has been loaded that is needed at the start: the keys and, if the
    /// feed is followed, its first snapshot.
    pub fn is_loaded(&self) -> bool {
        *self.shared.loaded.borrow() && !self.shared.keys.is_empty()
    }

    /// Waits until the view [`is_loaded`](Self::is_loaded).
    pub async fn wait_until_loaded(&self) {
        // An error would mean that the sender is gone, but `self` holds it.
        let _ = self.shared.loaded.subscribe().wait_for(|loaded| *loaded).await;
        self.shared.keys.wait_until_loaded().await;
    }

    /// Returns the time since a message of the feed last confirmed that the view is up to date, or
    /// `None` if no feed is followed.
    pub fn silence(&self) -> Option<Duration> {
        self.shared.follows.then(|| self.shared.read().last_heard.elapsed())
    }

    /// Returns whether an RPC is refused because the feed has been silent for too long.
    pub fn refuses_in_silence(&self, is_read: bool) -> bool {
        self.silence()
            .is_some_and(|silence| self.silence.refuses(silence, is_read))
    }

    /// Returns the rule for a silent feed.
    pub const fn silence_rule(&self) -> SilenceRule {
        self.silence
    }

    /// Returns the position that the view has reached, or `None` before the first snapshot.
    pub fn position(&self) -> Option<FeedPosition> {
        self.shared.read().known.position
    }

    /// Returns the revocations and key withdrawals that were known and that the current history of
    /// the feed lacks. They still apply to tokens that were issued before it.
    pub fn lost(&self) -> LostRevocations {
        let state = self.shared.read();
        LostRevocations {
            keys: state.withdrawn.offered.iter().cloned().collect(),
            ..state.known.lost()
        }
    }

    /// Returns a receiver that counts how often the feed went back to an earlier state than was
    /// known: to another epoch, or to a lower sequence number.
    pub fn went_back(&self) -> watch::Receiver<u64> {
        self.shared.back.subscribe()
    }

    /// Waits until the view has reached this sequence number.
    pub async fn reached(&self, sequence: i64) {
        let mut moved = self.shared.moved.subscribe();
        while self.position().is_none_or(|position| position.sequence < sequence) {
            // An error would mean that the sender is gone, but `self` holds it.
            let _ = moved.changed().await;
        }
    }

    /// Returns a receiver that is notified of every change that may cause a valid token to be
    /// refused. The receiver is closed when the view is dropped.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.shared.revoked.subscribe()
    }

    /// Waits until the principal would be refused for a call that requires this permission. This is
    /// for streams, which outlive their first check. The expiry of the token is not considered.
    pub async fn refused(&self, principal: &Principal, permission: Option<&Permission>) -> Refused {
        let mut changed = self.changed();
        loop {
            changed.mark_unchanged();
            if !self.shared.keys.is_empty() && !self.shared.keys.has(principal.key_id()) {
                return Refused::Token(TokenError::Invalid);
            }
            if let Err(error) = self.check(principal) {
                return Refused::Token(error);
            }
            if permission.is_some_and(|permission| !self.allow(principal, permission)) {
                return Refused::Permission;
            }
            // An error would mean that the sender is gone, but `self` holds it.
            let _ = changed.changed().await;
        }
    }

    fn new(known: FeedState, keys: KeySet, clock: Clock, follows: bool) -> Self {
        Self {
            shared: Arc::new(Shared::new(known, keys, clock, follows)),
            silence: SilenceRule::default(),
        }
    }
}

impl fmt::Debug for AccessView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.read();
        f.debug_struct("AccessView")
            .field("position", &state.known.position)
            .field("revocations", &state.known.revocations())
            .field("silence_rule", &self.silence)
            .finish_non_exhaustive()
    }
}
