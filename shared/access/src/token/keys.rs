//! Current verification keys, shared by the verifier, which reads them, and the source, which
//! replaces them.

use std::{collections::HashMap, fmt, sync::Arc};

use tokio::sync::watch;

use super::{Jwk, Jwks};

type Keys = HashMap<String, Arc<Jwk>>;

/// Current verification keys. Clones share the same keys.
#[derive(Clone)]
pub struct KeySet {
    keys: watch::Sender<Keys>,
    /// Notified of every token that names a key which is not in the set.
    unknown_kid: watch::Sender<()>,
}

impl KeySet {
    /// Creates a set without keys. Every token is refused until keys are added.
    pub fn empty() -> Self {
        Self {
            keys: watch::Sender::new(Keys::new()),
            unknown_kid: watch::Sender::new(()),
        }
    }

    /// Replaces all keys. The change takes effect with the next token.
    pub fn replace(&self, keys: Jwks) {
        self.replace_with(keys.into_keys());
    }

    pub(crate) fn replace_with(&self, keys: impl Iterator<Item = Jwk>) {
        let keys = keys.map(|key| (key.kid().to_owned(), Arc::new(key)));
        self.keys.send_replace(keys.collect());
    }

    /// Returns the ids of the keys.
    pub(crate) fn names(&self) -> Vec<String> {
        self.keys.borrow().keys().cloned().collect()
    }

    /// Returns whether the set has no key.
    pub fn is_empty(&self) -> bool {
        self.keys.borrow().is_empty()
    }

    /// Waits until the set has a key.
    pub async fn wait_until_loaded(&self) {
        // An error would mean that every sender is gone, but `self` holds one.
        let _ = self.keys.subscribe().wait_for(|keys| !keys.is_empty()).await;
    }

    /// Returns the key with this id. If there is none, notifies the task that follows the source.
    pub(super) fn get(&self, kid: &str) -> Option<Arc<Jwk>> {
        let key = self.keys.borrow().get(kid).cloned();
        if key.is_none() {
            self.unknown_kid.send_replace(());
        }
        key
    }

    /// Returns whether the set still has exactly this key under its id.
    pub(super) fn holds(&self, key: &Jwk) -> bool {
        self.keys.borrow().get(key.kid()).is_some_and(|held| **held == *key)
    }

    /// Returns whether the set has a key with this id.
    pub(crate) fn has(&self, kid: &str) -> bool {
        self.keys.borrow().contains_key(kid)
    }

    pub(super) fn unknown_kids(&self) -> watch::Receiver<()> {
        self.unknown_kid.subscribe()
    }
}

impl From<Jwks> for KeySet {
    fn from(keys: Jwks) -> Self {
        let set = Self::empty();
        set.replace(keys);
        set
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.borrow().keys()).finish()
    }
}
