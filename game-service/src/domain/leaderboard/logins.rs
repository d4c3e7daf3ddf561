//! Logins of the players who are shown most.
//!
//! The logins of all players would take more memory than their results, and reading them for each
//! answer costs more than everything else that the answer reads. So those that answers need are
//! kept, up to a bound.
//!
//! The cache needs no expiry. Triggers in the database give a player a new revision with each
//! change of the login, no matter which version of which program makes it. The query that every
//! answer waits for reports such players along with their logins, and the cache takes them over
//! before anything is answered.

use std::fmt;

use base::ids::UserId;
use quick_cache::{Weighter, unsync::Cache};

/// Bound on the memory of the cached logins: a small part of what the ranks of a million players
/// take. It is enough for 80,000 logins, which are the players around several thousand callers.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// Memory of an entry besides the login itself, in bytes: entry, share of the hash table and of the
/// ids that were evicted last, and room for growth.
const ENTRY_BYTES: u64 = 192;

/// Typical number of bytes of a login.
const LOGIN_BYTES: u64 = 16;

/// Cache of logins, as described in the module documentation.
pub(super) struct LoginCache {
    cache: Cache<UserId, Box<str>, Bytes>,
    version: u64,
}

#[derive(Clone, Copy, Debug)]
struct Bytes;

impl Weighter<UserId, Box<str>> for Bytes {
    fn weight(&self, _: &UserId, login: &Box<str>) -> u64 {
        ENTRY_BYTES + u64::try_from(login.len()).unwrap_or(u64::MAX - ENTRY_BYTES)
    }
}

impl LoginCache {
    /// Creates an empty cache. It allocates memory only as it fills.
    pub(super) fn new(max_bytes: u64) -> Self {
        let logins = max_bytes / (ENTRY_BYTES + LOGIN_BYTES);
        let logins = usize::try_from(logins).unwrap_or(usize::MAX);
        Self {
            cache: Cache::with_weighter(logins, max_bytes, Bytes),
            version: 0,
        }
    }

    /// Returns a number that grows with every change of a login. While it stays the same, so does
    /// every login that [`Self::get`] has returned.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// Returns the login of a player, if it is known.
    pub(super) fn get(&self, id: UserId) -> Option<&str> {
        self.cache.get(&id).map(AsRef::as_ref)
    }

    /// Keeps a login that has just been read, in place of one that is used less.
    pub(super) fn insert(&mut self, id: UserId, login: &str) {
        self.cache.insert(id, login.into());
    }

    /// Takes over the login of a player who may have changed. It is kept only if the player was
    /// known before, so that the players of all finished games do not displace those who are shown.
    pub(super) fn update(&mut self, id: UserId, login: &str) {
        if self.cache.peek(&id).is_some_and(|known| **known == *login) {
            return;
        }
        // An earlier login may have been evicted after it was returned.
        self.version += 1;
        // An error means that the player was not known.
        let _ = self.cache.replace(id, login.into(), true);
    }

    /// Forgets all logins.
    pub(super) fn clear(&mut self) {
        self.cache.clear();
        self.version += 1;
    }
}

impl fmt::Debug for LoginCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginCache")
            .field("logins", &self.cache.len())
            .field("version", &self.version)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cache_evicts_and_stays_within_its_memory() {
        let mut logins = LoginCache::new(MAX_BYTES);
        let login = |number: u32| format!("a_login_of_{number:09}");
        let ids: Vec<UserId> = (0..300_000).map(|_| UserId::generate()).collect();
        for (number, id) in (0..).zip(&ids) {
            logins.insert(*id, &login(number));
            // The first player is shown again and again.
            assert_eq!(logins.get(ids[0]), Some(&*login(0)), "after {number}");
        }
        let known = (0..).zip(&ids).filter(|(number, id)| {
            let known = logins.get(**id);
            assert!(known.is_none_or(|known| *known == login(*number)));
            known.is_some()
        });
        let known = known.count();
        assert!((70_000..90_000).contains(&known), "{known} logins");
        // An allocation of 20 bytes takes 32.
        let bytes = logins.cache.memory_used().total() + 32 * known;
        assert!(u64::try_from(bytes).expect("positive") <= MAX_BYTES, "{bytes} bytes");
    }

    #[test]
    fn a_change_is_taken_over_and_noticed_even_if_the_player_is_not_known() {
        let mut logins = LoginCache::new(MAX_BYTES);
        let [ann, bob] = [(); 2].map(|()| UserId::generate());
        logins.insert(ann, "ann");
        assert_eq!(logins.version(), 0, "answers stay as they are");
        logins.update(ann, "ann");
        assert_eq!((logins.version(), logins.get(ann)), (0, Some("ann")));
        logins.update(ann, "anna");
        assert_eq!((logins.version(), logins.get(ann)), (1, Some("anna")));
        logins.update(bob, "bob");
        assert_eq!((logins.version(), logins.get(bob)), (2, None));
        // Longer than the cache: it is forgotten, and the earlier login as well.
        logins.update(ann, &"a".repeat(17 << 20));
        assert_eq!((logins.version(), logins.get(ann)), (3, None));
        logins.insert(bob, "bob");
        logins.clear();
        assert_eq!((logins.version(), logins.get(bob)), (4, None));
    }
}
