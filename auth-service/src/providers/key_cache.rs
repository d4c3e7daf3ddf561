//! Keys of one provider, loaded when they are needed and kept while the provider is out of reach.
//!
//! A load is begun at most once in [`BETWEEN_LOADS`], whatever tokens are sent: anyone can send one
//! that names an unknown key. It does not end with the call that needed it, so a caller who gives
//! up cannot keep the keys old.

use std::{fmt, sync::Arc, time::Duration};

use access::token::{Download, DownloadError, Object};
use base::clock::Clock;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use url::Url;

use super::{
    keys::{ProviderKey, ProviderKeys},
    spec::{KeysAt, ProviderSpec, check_url},
};

/// Shortest time between the starts of two loads.
const BETWEEN_LOADS: Duration = Duration::from_secs(30);
/// Age from which keys are loaded anew when they are used. They stay in use meanwhile.
const REFRESH_AFTER: Duration = Duration::from_hours(1);
/// Longest time of a load, with the discovery document.
const LOAD_WITHIN: Duration = Duration::from_secs(5);
/// Maximum number of calls that wait for a load. Further ones are refused at once.
const MAX_WAITING: usize = 64;
/// Suggested wait for a call that finds no place to wait.
const BUSY_FOR: Duration = Duration::from_secs(5);

/// Maximum size of a discovery document, in bytes. That of Google has 2 KiB.
const MAX_DISCOVERY_LEN: usize = 64 * 1024;
/// Maximum size of a set of keys, in bytes. That of Microsoft, with certificates, has 20 KiB.
const MAX_KEYS_LEN: usize = 256 * 1024;

/// Result of the look-up of a key.
pub(super) enum Lookup {
    Found(ProviderKey),
    /// The provider has no such key.
    Unknown,
    /// The keys cannot be loaded. Another attempt makes sense after this time.
    Unavailable(Duration),
}

/// The keys of a provider. Clones share them.
#[derive(Clone)]
pub(super) struct KeyCache(Arc<Inner>);

struct Inner {
    spec: Arc<ProviderSpec>,
    clock: Clock,
    state: Mutex<State>,
    /// Places for calls that wait for a load.
    waiting: Semaphore,
}

#[derive(Default)]
struct State {
    keys: Option<ProviderKeys>,
    /// Monotonic time when the keys were loaded.
    loaded_at: Duration,
    /// Monotonic time when the last load began.
    begun_at: Option<Duration>,
    has_failed: bool,
    /// Closed when the present load ends.
    loading: Option<watch::Receiver<()>>,
}

impl KeyCache {
    pub(super) fn new(spec: Arc<ProviderSpec>, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            spec,
            clock,
            state: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        }))
    }

    /// Returns the key with this id. If it is not known, waits for a load of the keys, unless the
    /// last one was a short time ago.
    pub(super) async fn get(&self, kid: &str) -> Lookup {
        let loading = {
            let mut state = self.0.state.lock();
            let found = state.find(kid);
            if found.is_none() || state.is_old(self.0.clock.monotonic()) {
                self.begin_load(&mut state);
            }
            if let Some(key) = found {
                return Lookup::Found(key);
            }
            state.loading.clone()
        };
        if let Some(mut loading) = loading {
            let Ok(_place) = self.0.waiting.try_acquire() else {
                return Lookup::Unavailable(BUSY_FOR);
            };
            // Nothing is ever sent: an error says that the load has ended.
            while loading.changed().await.is_ok() {}
        }
        let state = self.0.state.lock();
        match state.find(kid) {
            Some(key) => Lookup::Found(key),
            None if state.has_failed || state.keys.is_none() => {
                Lookup::Unavailable(state.pause(self.0.clock.monotonic()))
            }
            None => Lookup::Unknown,
        }
    }

    /// Begins a load, unless one is under way or was begun a short time ago.
    fn begin_load(&self, state: &mut State) {
        let now = self.0.clock.monotonic();
        if state.is_loading() || !state.pause(now).is_zero() {
            return;
        }
        let (end, loading) = watch::channel(());
        state.begun_at = Some(now);
        state.loading = Some(loading);
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let loaded = tokio::time::timeout(LOAD_WITHIN, inner.load()).await;
            let loaded = loaded.unwrap_or_else(|_| Err(format!("no answer within {} s", LOAD_WITHIN.as_secs())));
            let mut state = inner.state.lock();
            state.loading = None;
            state.has_failed = loaded.is_err();
            match loaded {
                Ok(keys) => {
                    state.keys = Some(keys);
                    state.loaded_at = inner.clock.monotonic();
                }
                Err(error) => {
                    let (provider, has_keys) = (&inner.spec.name, state.keys.is_some());
                    tracing::warn!(
                        provider,
                        has_keys,
                        error,
                        "cannot load the keys of an identity provider"
                    );
                }
            }
            drop(state);
            drop(end);
        });
    }
}

impl State {
    fn find(&self, kid: &str) -> Option<ProviderKey> {
        self.keys.as_ref()?.get(kid).cloned()
    }

    fn is_old(&self, now: Duration) -> bool {
        now.saturating_sub(self.loaded_at) >= REFRESH_AFTER
    }

    fn is_loading(&self) -> bool {
        // A load that has ended without a trace does not block others for ever.
        self.loading
            .as_ref()
            .is_some_and(|loading| loading.has_changed().is_ok())
    }

    /// Returns the time until the next load may begin.
    fn pause(&self, now: Duration) -> Duration {
        self.begun_at
            .map_or(Duration::ZERO, |begun| (begun + BETWEEN_LOADS).saturating_sub(now))
    }
}

impl Inner {
    async fn load(&self) -> Result<ProviderKeys, String> {
        let url = match &self.spec.keys {
            KeysAt::Jwks(url) => url.clone(),
            KeysAt::Discovery(url) => self.discover(url).await?,
        };
        let json = self.get(&url, MAX_KEYS_LEN).await?;
        ProviderKeys::parse(&json, &self.spec.algorithms).map_err(|error| format!("{}: {error}", shown(&url)))
    }

    /// Reads the place of the keys from the discovery document, which must be that of this issuer.
    async fn discover(&self, url: &Url) -> Result<Url, String> {
        let json = self.get(url, MAX_DISCOVERY_LEN).await?;
        let bad = |what: &str| format!("{}: {what}", shown(url));
        let Object(document) = Object::parse(&json).ok_or_else(|| bad("it is not a JSON object"))?;
        let text = |name: &str| document.get(name).and_then(|value| value.as_str());
        if text("issuer") != Some(self.spec.issuer.as_str()) {
            return Err(bad("it is the document of another issuer"));
        }
        let keys = text("jwks_uri").and_then(|keys| Url::parse(keys).ok());
        let keys = keys.ok_or_else(|| bad("jwks_uri must be a URL"))?;
        check_url(&keys, self.spec.reach).map_err(|why| bad(&format!("jwks_uri {why}")))?;
        Ok(keys)
    }

    async fn get(&self, url: &Url, max_len: usize) -> Result<Vec<u8>, String> {
        let download = Download {
            url,
            accept: "application/json",
            max_len,
            reach: self.spec.reach,
        };
        let got = download.get().await;
        got.map_err(|error: DownloadError| format!("{}: {error}", shown(url)))
    }
}

/// Returns the URL without its query, which may hold a secret.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache").finish_non_exhaustive()
    }
}
