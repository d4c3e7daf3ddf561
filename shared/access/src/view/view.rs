//! What verification and authorization consult on every request.

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
    policy::{Grants, Permission},
    token::{KeySet, Principal, TokenError},
};

/// Which tokens are good no more, and what each role holds. Clones share it. To ask it takes no
/// memory and waits for nothing.
#[derive(Clone)]
pub struct AccessView {
    shared: Arc<Shared>,
    silence: SilenceRule,
}

/// Why whoever called is refused now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The token is good no more.
    Token(TokenError),
    /// The permission was taken away.
    Permission,
}

impl AccessView {
    /// The view of a service that has keys alone, which somebody else fills in: it goes by these
    /// grants, and hears of no revocations.
    pub fn offline(keys: KeySet, grants: Grants) -> Self {
        Self::new(FeedState::of(grants), keys, Clock::system(), false)
    }

    /// The view of a service that follows the feed, and takes its keys from there. Until the first
    /// snapshot nothing is allowed. Revocations are kept by this clock's monotonic side.
    pub fn following(keys: KeySet, clock: Clock) -> Self {
        shared::describe_metrics();
        Self::new(FeedState::default(), keys, clock, true)
    }

    /// The same view, with this rule for a silent feed in this clone and those made of it.
    pub fn with_silence(mut self, rule: SilenceRule) -> Self {
        self.silence = rule;
        self
    }

    /// Takes in the messages of one stream, from its first on. Every stream needs its own.
    pub fn intake(&self) -> AccessIntake {
        AccessIntake::new(Arc::clone(&self.shared))
    }

    /// Whether the token with which this principal called is still good.
    ///
    /// # Errors
    ///
    /// [`TokenError::Revoked`] where its session has ended, [`TokenError::Stale`] where its user
    /// has changed since.
    pub fn check(&self, principal: &Principal) -> Result<(), TokenError> {
        self.shared.read().known.check(principal)
    }

    /// Whether this principal holds the permission.
    pub fn allow(&self, principal: &Principal, permission: &Permission) -> bool {
        self.is_loaded() && self.shared.read().known.grants.allow(principal, permission)
    }

    /// Whether everything is known that has to be known at the start: the keys, and where a feed is
    /// followed, its first snapshot.
    pub fn is_loaded(&self) -> bool {
        *self.shared.loaded.borrow() && !self.shared.keys.is_empty()
    }

    /// Returns once [`is_loaded`](Self::is_loaded).
    pub async fn wait_until_loaded(&self) {
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = self.shared.loaded.subscribe().wait_for(|loaded| *loaded).await;
        self.shared.keys.wait_until_loaded().await;
    }

    /// For how long nothing was heard from the feed; nothing where none is followed.
    pub fn silence(&self) -> Option<Duration> {
        self.shared.follows.then(|| self.shared.read().heard.elapsed())
    }

    /// Whether an RPC is refused because the feed has been silent for too long.
    pub fn refuses_in_silence(&self, is_read: bool) -> bool {
        self.silence()
            .is_some_and(|silence| self.silence.refuses(silence, is_read))
    }

    /// The rule for a silent feed.
    pub const fn silence_rule(&self) -> SilenceRule {
        self.silence
    }

    /// How far the view has come; nothing before the first snapshot.
    pub fn position(&self) -> Option<FeedPosition> {
        self.shared.read().known.position
    }

    /// Revocations that were known and that the present history of the feed lacks. They still
    /// refuse tokens issued before it.
    pub fn lost(&self) -> LostRevocations {
        let state = self.shared.read();
        LostRevocations {
            keys: state.withdrawn.offered.iter().cloned().collect(),
            ..state.known.lost()
        }
    }

    /// Counts how often the feed went back to before what was known: to another life, or to a lower
    /// number.
    pub fn went_back(&self) -> watch::Receiver<u64> {
        self.shared.back.subscribe()
    }

    /// Returns as soon as the view has come to this change or beyond.
    pub async fn reached(&self, sequence: i64) {
        let mut moved = self.shared.moved.subscribe();
        while self.position().is_none_or(|position| position.sequence < sequence) {
            // An error would mean that the sender is gone, and `self` holds it.
            let _ = moved.changed().await;
        }
    }

    /// Tells of every change after which a token that was good may be refused, until the view is
    /// gone.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.shared.revoked.subscribe()
    }

    /// Returns as soon as the principal would be refused that called with the need of this
    /// permission: for streams, which outlive their first check. It knows nothing of the token's
    /// own end.
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
            // An error would mean that the sender is gone, and `self` holds it.
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
