//! State that all clones of a view share, and that an intake changes.

use std::collections::BTreeSet;

use base::{clock::Clock, telemetry};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::{sync::watch, time::Instant};

use super::feed_state::FeedState;
use crate::token::{Jwks, KeySet};

/// Counter of returns of the feed to an earlier state than was known.
const WENT_BACK: &str = "access_feed_went_back_total";

pub(super) struct Shared {
    state: RwLock<State>,
    pub(super) keys: KeySet,
    pub(super) clock: Clock,
    pub(super) follows: bool,
    pub(super) loaded: watch::Sender<bool>,
    pub(super) revoked: watch::Sender<()>,
    pub(super) moved: watch::Sender<()>,
    /// Number of times that the feed went back to an earlier state.
    pub(super) back: watch::Sender<u64>,
}

pub(super) struct State {
    pub(super) known: FeedState,
    pub(super) withdrawn: Withdrawn,
    pub(super) last_heard: Instant,
}

/// Keys that were in use and were then withdrawn. They are never accepted again, because a database
/// that has lost the withdrawal of a leaked key offers the key anew.
#[derive(Debug, Default)]
pub(super) struct Withdrawn {
    kids: BTreeSet<String>,
    /// Withdrawn keys that the feed currently offers again.
    pub(super) offered: BTreeSet<String>,
}

/// Describes the metrics before anything is measured. The counter starts at zero, so that its first
/// change is visible.
pub(super) fn describe_metrics() {
    telemetry::metrics::recorder();
    metrics::describe_counter!(
        WENT_BACK,
        "Number of times that the access feed went back to an earlier state than this process knew, because the \
         database was restored from a backup or lost its last commits."
    );
    metrics::counter!(WENT_BACK).increment(0);
}

impl Shared {
    pub(super) fn new(known: FeedState, keys: KeySet, clock: Clock, follows: bool) -> Self {
        let state = State {
            known,
            withdrawn: Withdrawn::default(),
            last_heard: Instant::now(),
        };
        Self {
            state: RwLock::new(state),
            loaded: watch::Sender::new(!follows),
            keys,
            clock,
            follows,
            revoked: watch::Sender::new(()),
            moved: watch::Sender::new(()),
            back: watch::Sender::new(0),
        }
    }

    // A panic leaves nothing half written here, because each new value is built before it is
    // stored.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    pub(super) fn set_loaded(&self) {
        self.loaded.send_replace(true);
    }

    pub(super) fn set_moved(&self) {
        self.moved.send_replace(());
    }

    pub(super) fn set_revoked(&self) {
        self.revoked.send_replace(());
    }

    /// Records that the feed went back.
    pub(super) fn record_went_back(&self) {
        self.back.send_modify(|times| *times += 1);
        metrics::counter!(WENT_BACK).increment(1);
        tracing::error!(
            "the access feed has lost changes that this process knows: auth-service's database was restored, or a \
             standby without the last commits was promoted; revocations that are known stay in force for earlier tokens"
        );
    }

    /// Replaces the verification keys with these, except for those that were withdrawn.
    pub(super) fn replace_keys_of(&self, withdrawn: &mut Withdrawn, keys: Jwks) {
        let offered: BTreeSet<String> = keys.keys().iter().map(|key| key.kid().to_owned()).collect();
        let gone = self.keys.names().into_iter().filter(|kid| !offered.contains(kid));
        withdrawn.kids.extend(gone);
        let again: BTreeSet<String> = withdrawn.kids.intersection(&offered).cloned().collect();
        for kid in again.difference(&withdrawn.offered) {
            tracing::error!(
                kid,
                "the access feed offers a signing key that it had withdrawn; its tokens stay refused; if the database \
                 was restored from a backup, run `auth-service after-restore`"
            );
        }
        self.keys
            .replace_with(keys.into_keys().filter(|key| !again.contains(key.kid())));
        withdrawn.offered = again;
    }
}
