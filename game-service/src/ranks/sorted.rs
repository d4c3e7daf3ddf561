//! A sorted set of indexes that knows the place of each.
//!
//! The set holds only the indexes, and gets their keys from its caller. No two keys are equal, and
//! the key of an index stays the same while it is in the set.
//!
//! The indexes are kept in blocks of bounded size, along with the first key of each block and the
//! number of indexes before it. A place is found by two binary searches. The first one reads
//! nothing but the first keys, which lie side by side. Each step of the second one reads a key from
//! anywhere in memory. A change moves part of one block and updates the counts of the blocks after
//! it, of which there are few.

/// Sorted set, as described in the module documentation.
#[derive(Clone, Debug)]
pub(super) struct Sorted<K> {
    /// Blocks in order, none of them empty.
    blocks: Vec<Vec<u32>>,
    /// First key of each block.
    firsts: Vec<K>,
    /// Number of indexes before each block.
    starts: Vec<usize>,
    len: usize,
    /// Maximum number of indexes in a block, at least 2.
    max_block: usize,
}

impl<K: Copy + Ord> Sorted<K> {
    /// Maximum number of indexes in a block. With this size, a change moves one memory page at
    /// most, and a million indexes take about a thousand blocks.
    const MAX_BLOCK: usize = 1024;

    pub(super) const fn new() -> Self {
        Self::with_max_block(Self::MAX_BLOCK)
    }

    /// Creates a set of these indexes, which are in order.
    pub(super) fn from_sorted(indexes: impl Iterator<Item = u32>, key_of: impl Fn(u32) -> K) -> Self {
        Self::new().filled(indexes, key_of)
    }

    const fn with_max_block(max_block: usize) -> Self {
        Self {
            blocks: Vec::new(),
            firsts: Vec::new(),
            starts: Vec::new(),
            len: 0,
            max_block,
        }
    }

    /// Fills an empty set. The blocks get room for insertions, which would otherwise split every
    /// block.
    fn filled(mut self, mut indexes: impl Iterator<Item = u32>, key_of: impl Fn(u32) -> K) -> Self {
        let size = self.max_block - self.max_block / 4;
        loop {
            let mut block = Vec::with_capacity(size);
            block.extend(indexes.by_ref().take(size));
            let Some(first) = block.first() else { return self };
            self.firsts.push(key_of(*first));
            self.starts.push(self.len);
            self.len += block.len();
            self.blocks.push(block);
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of indexes with smaller keys than this one, which no index needs to have.
    pub(super) fn rank(&self, key: &K, key_of: impl Fn(u32) -> K) -> usize {
        let block = self.block_of(key);
        let Some(indexes) = self.blocks.get(block) else {
            return 0;
        };
        self.starts[block] + indexes.partition_point(|other| key_of(*other) < *key)
    }

    /// Returns the indexes from this place on, in order.
    pub(super) fn from(&self, place: usize) -> impl Iterator<Item = u32> {
        let block = self.starts.partition_point(|start| *start <= place).saturating_sub(1);
        let skipped = place - self.starts.get(block).copied().unwrap_or(place);
        self.blocks[block.min(self.blocks.len())..]
            .iter()
            .flatten()
            .skip(skipped)
            .copied()
    }

    /// Inserts an index. Returns false if one with the same key was already there.
    pub(super) fn insert(&mut self, index: u32, key_of: impl Fn(u32) -> K) -> bool {
        let key = key_of(index);
        let block = self.block_of(&key);
        if self.blocks.is_empty() {
            self.blocks.push(Vec::new());
            self.firsts.push(key);
            self.starts.push(0);
        }
        let indexes = &mut self.blocks[block];
        let Err(place) = indexes.binary_search_by(|other| key_of(*other).cmp(&key)) else {
            return false;
        };
        if indexes.len() == indexes.capacity() {
            // Doubling, as `insert` does by itself, would leave half of the memory unused.
            indexes.reserve_exact(self.max_block.div_ceil(8));
        }
        indexes.insert(place, index);
        if place == 0 {
            self.firsts[block] = key;
        }
        self.count(block, 1, 0);
        if self.blocks[block].len() > self.max_block {
            let half = self.blocks[block].len() / 2;
            let rest = self.blocks[block].split_off(half);
            self.blocks[block].shrink_to_fit();
            self.firsts.insert(block + 1, key_of(rest[0]));
            self.blocks.insert(block + 1, rest);
            self.starts.insert(block + 1, self.starts[block] + half);
        }
        true
    }

    /// Removes the index with this key. Returns whether it was there.
    pub(super) fn remove(&mut self, key: &K, key_of: impl Fn(u32) -> K) -> bool {
        let block = self.block_of(key);
        let find = |indexes: &Vec<u32>| indexes.binary_search_by(|other| key_of(*other).cmp(key));
        let Some(Ok(place)) = self.blocks.get(block).map(find) else {
            return false;
        };
        self.blocks[block].remove(place);
        self.count(block, 0, 1);
        let Some(first) = self.blocks[block].first() else {
            self.blocks.remove(block);
            self.firsts.remove(block);
            self.starts.remove(block);
            return true;
        };
        if place == 0 {
            self.firsts[block] = key_of(*first);
        }
        // Neighbouring blocks that have become small are merged.
        for first in [block, block.saturating_sub(1)] {
            if let Some([one, next]) = self.blocks.get(first..first + 2)
                && one.len() + next.len() <= self.max_block / 2
            {
                let next = self.blocks.remove(first + 1);
                self.firsts.remove(first + 1);
                self.starts.remove(first + 1);
                self.blocks[first].reserve_exact(next.len());
                self.blocks[first].extend(next);
                break;
            }
        }
        true
    }

    /// Returns the number of bytes allocated.
    pub(super) fn allocated_bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Vec::capacity).sum();
        blocks * size_of::<u32>()
            + self.blocks.capacity() * size_of::<Vec<u32>>()
            + self.firsts.capacity() * size_of::<K>()
            + self.starts.capacity() * size_of::<usize>()
    }

    /// Returns the number of the block that holds the index with this key or would hold it.
    fn block_of(&self, key: &K) -> usize {
        self.firsts.partition_point(|first| first <= key).saturating_sub(1)
    }

    /// Updates the counts after a block has grown or shrunk.
    fn count(&mut self, block: usize, more: usize, less: usize) {
        self.len = self.len + more - less;
        for start in &mut self.starts[block + 1..] {
            *start = *start + more - less;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{
        collection::{btree_set, vec},
        prelude::*,
    };

    use super::*;

    /// Sorts indexes in another order than that of the numbers.
    fn key(index: u32) -> (u32, u32) {
        (index % 7, index)
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_sorted_set(
            max_block in 2..14_usize,
            loaded in btree_set(0..60_u32, 0..60),
            changes in vec((any::<bool>(), 0..60_u32), 0..400),
            shrinking in vec(0..60_u32, 0..120),
        ) {
            let mut model: BTreeSet<_> = loaded.into_iter().map(key).collect();
            let mut ours = Sorted::with_max_block(max_block).filled(model.iter().map(|(_, index)| *index), key);
            let shrinking = shrinking.into_iter().map(|index| (false, index));
            for (is_more, index) in changes.into_iter().chain(shrinking) {
                if is_more {
                    prop_assert_eq!(ours.insert(index, key), model.insert(key(index)));
                } else {
                    prop_assert_eq!(ours.remove(&key(index), key), model.remove(&key(index)));
                }
                prop_assert_eq!(ours.len(), model.len());
                prop_assert_eq!(ours.rank(&key(index), key), model.range(..key(index)).count());
                let place = index as usize % (model.len() + 2);
                prop_assert!(ours.from(place).eq(model.iter().skip(place).map(|(_, index)| *index)));
                let is_bounded = |block: &Vec<u32>| (1..=max_block).contains(&block.len());
                prop_assert!(ours.blocks.iter().all(is_bounded), "{:?}", ours.blocks);
                let firsts = ours.blocks.iter().map(|block| key(block[0]));
                prop_assert!(firsts.eq(ours.firsts.iter().copied()), "{:?}", ours.firsts);
            }
            // No two neighbouring blocks are small enough to be merged.
            let is_large = |pair: &[Vec<u32>]| pair[0].len() + pair[1].len() > max_block / 2;
            prop_assert!(ours.blocks.windows(2).all(is_large), "{:?}", ours.blocks);
        }
    }
}
