//! The keys that count at this moment, shared by the verifier that reads them and the source that
//! replaces them.

use std::{collections::HashMap, fmt, sync::Arc};

use tokio::sync::watch;

use super::{Jwk, Jwks};

type Keys = HashMap<String, Arc<Jwk>>;

/// The current verification keys. Clones share them.
#[derive(Clone)]
pub struct KeySet {
    keys: watch::Sender<Keys>,
    /// Told of every token that names a key which is not here.
    unknown_kid: watch::Sender<()>,
}

impl KeySet {
    /// No keys yet: every token is refused.
    pub fn empty() -> Self {
        Self {
            keys: watch::Sender::new(Keys::new()),
            unknown_kid: watch::Sender::new(()),
        }
    }

    /// Lets these keys count, and no others, from the next token on.
    pub fn replace(&self, keys: Jwks) {
        self.replace_with(keys.into_keys());
    }

    pub(crate) fn replace_with(&self, keys: impl Iterator<Item = Jwk>) {
        let keys = keys.map(|key| (key.kid().to_owned(), Arc::new(key)));
        self.keys.send_replace(keys.collect());
    }

    /// The names of the keys.
    pub(crate) fn names(&self) -> Vec<String> {
        self.keys.borrow().keys().cloned().collect()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.borrow().is_empty()
    }

    /// Returns once there are keys.
    pub async fn wait_until_loaded(&self) {
        // An error would mean that the sender is gone, and `self` is one.
        let _ = self.keys.subscribe().wait_for(|keys| !keys.is_empty()).await;
    }

    /// The key of this name. If there is none, whoever follows a source is told.
    pub(super) fn get(&self, kid: &str) -> Option<Arc<Jwk>> {
        let key = self.keys.borrow().get(kid).cloned();
        if key.is_none() {
            self.unknown_kid.send_replace(());
        }
        key
    }

    /// Whether this very key is still in use under its name.
    pub(super) fn holds(&self, key: &Jwk) -> bool {
        self.keys.borrow().get(key.kid()).is_some_and(|held| **held == *key)
    }

    /// Whether there is a key of this name.
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
