//! Hash table from the id of a player to the player's index.
//!
//! The table holds only indexes, and compares the ids where the players are kept. It is split into
//! shards that grow independently, so that a new player waits for the growth of a small table, and
//! only a small table is copied at a time. As one table, ten million players would wait for more
//! than a second.

use std::hash::BuildHasher as _;

use base::ids::UserId;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::players::Players;

/// Number of shards: one for each value of a byte of the hash.
const SHARDS: usize = 256;

/// Hash table, as described in the module documentation.
#[derive(Debug)]
pub(super) struct Index {
    shards: Vec<HashTable<u32>>,
    hasher: DefaultHashBuilder,
    len: usize,
}

impl Index {
    pub(super) fn new() -> Self {
        Self::with_capacity(0)
    }

    /// Creates an empty table for this many players.
    pub(super) fn with_capacity(players: usize) -> Self {
        Self {
            shards: (0..SHARDS)
                .map(|_| HashTable::with_capacity(players / SHARDS))
                .collect(),
            hasher: DefaultHashBuilder::default(),
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the index of the player with this id.
    pub(super) fn find(&self, id: UserId, players: &Players) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        self.shards[shard(hash)]
            .find(hash, |index| players.get(*index).id == id)
            .copied()
    }

    /// Inserts the index of a player who is not in the table yet.
    pub(super) fn insert(&mut self, index: u32, players: &Players) {
        let hash = |index: &u32| self.hasher.hash_one(players.get(*index).id);
        let own = hash(&index);
        self.shards[shard(own)].insert_unique(own, index, hash);
        self.len += 1;
    }

    /// Removes the player with this id, and returns the index.
    pub(super) fn remove(&mut self, id: UserId, players: &Players) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        let entry = self.shards[shard(hash)].find_entry(hash, |index| players.get(*index).id == id);
        let (index, _) = entry.ok()?.remove();
        self.len -= 1;
        Some(index)
    }

    /// Returns the number of bytes allocated.
    pub(super) fn allocated_bytes(&self) -> usize {
        let shards: usize = self.shards.iter().map(HashTable::allocation_size).sum();
        shards + self.shards.capacity() * size_of::<HashTable<u32>>()
    }
}

/// Returns the shard of a hash. The table itself uses the lowest bits and the highest seven.
const fn shard(hash: u64) -> usize {
    hash.to_le_bytes()[6] as usize
}
