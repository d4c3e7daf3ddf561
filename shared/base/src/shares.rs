//! Limits on what each key may hold: connections per address, or streams per connection or account.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

/// Counts per key, all bounded by the same limit.
#[derive(Clone, Debug)]
pub struct Shares<K: Hash + Eq> {
    limit: u32,
    held: Arc<Mutex<HashMap<K, u32>>>,
}

/// A unit that a key holds until this value is dropped.
#[derive(Debug)]
pub struct Share<K: Hash + Eq> {
    key: K,
    held: Arc<Mutex<HashMap<K, u32>>>,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// Creates counts with this limit for each key.
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            held: Arc::default(),
        }
    }

    /// Takes one more unit for this key. Returns `None` if the key already holds as many as the
    /// limit allows.
    pub fn take(&self, key: K) -> Option<Share<K>> {
        let mut held = lock(&self.held);
        let count = held.entry(key.clone()).or_default();
        if *count >= self.limit {
            if *count == 0 {
                held.remove(&key);
            }
            return None;
        }
        *count += 1;
        Some(Share {
            key,
            held: Arc::clone(&self.held),
        })
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

// A panic cannot leave the map half updated, so nothing has to be repaired.
fn lock<K>(held: &Mutex<HashMap<K, u32>>) -> MutexGuard<'_, HashMap<K, u32>> {
    held.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_no_more_than_its_share() {
        let shares = Shares::new(2);
        let (first, second) = (shares.take("a"), shares.take("a"));
        assert!(first.is_some() && second.is_some() && shares.take("a").is_none());
        let other = shares.take("b");
        assert!(other.is_some());
        drop(first);
        let third = shares.take("a");
        assert!(third.is_some());
        drop((second, third, other));
        assert!(lock(&shares.held).is_empty(), "keys that hold nothing are forgotten");
        assert!(Shares::new(0).take("a").is_none());
    }
}
