//! A sorted set that knows the place of each of its elements.
//!
//! The elements are kept in blocks of bounded size, along with the number of elements before each
//! block. A place is found by two binary searches. A change moves part of one block and updates the
//! counts of the blocks after it, of which there are few.

/// Sorted set, as described in the module documentation.
#[derive(Clone, Debug)]
pub(super) struct Sorted<T> {
    /// Blocks in order, none of them empty.
    blocks: Vec<Vec<T>>,
    /// Number of elements before each block.
    starts: Vec<usize>,
    len: usize,
    /// Maximum number of elements in a block, at least 2.
    max_block: usize,
}

impl<T: Ord> Sorted<T> {
    pub(super) const fn new() -> Self {
        // With this size, a change moves a few memory pages at most, and a million elements take a
        // few thousand blocks.
        Self::with_max_block(512)
    }

    const fn with_max_block(max_block: usize) -> Self {
        Self {
            blocks: Vec::new(),
            starts: Vec::new(),
            len: 0,
            max_block,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of elements before this one, which need not be in the set.
    pub(super) fn rank(&self, element: &T) -> usize {
        let block = self.block_of(element);
        let Some(elements) = self.blocks.get(block) else {
            return 0;
        };
        self.starts[block] + elements.partition_point(|other| other < element)
    }

    /// Returns the elements from this place on, in order.
    pub(super) fn from(&self, place: usize) -> impl Iterator<Item = &T> {
        let block = self.starts.partition_point(|start| *start <= place).saturating_sub(1);
        let skipped = place - self.starts.get(block).copied().unwrap_or(place);
        self.blocks[block.min(self.blocks.len())..]
            .iter()
            .flatten()
            .skip(skipped)
    }

    /// Inserts an element. Returns false if it was already there.
    pub(super) fn insert(&mut self, element: T) -> bool {
        let block = self.block_of(&element);
        if self.blocks.is_empty() {
            self.blocks.push(Vec::new());
            self.starts.push(0);
        }
        let Err(place) = self.blocks[block].binary_search(&element) else {
            return false;
        };
        self.blocks[block].insert(place, element);
        self.count(block, 1, 0);
        if self.blocks[block].len() > self.max_block {
            let half = self.blocks[block].len() / 2;
            let rest = self.blocks[block].split_off(half);
            self.blocks[block].shrink_to_fit();
            self.blocks.insert(block + 1, rest);
            self.starts.insert(block + 1, self.starts[block] + half);
        }
        true
    }

    /// Removes an element. Returns whether it was there.
    pub(super) fn remove(&mut self, element: &T) -> bool {
        let block = self.block_of(element);
        let Some(Ok(place)) = self.blocks.get(block).map(|elements| elements.binary_search(element)) else {
            return false;
        };
        self.blocks[block].remove(place);
        self.count(block, 0, 1);
        if self.blocks[block].is_empty() {
            self.blocks.remove(block);
            self.starts.remove(block);
            return true;
        }
        // Neighbouring blocks that have become small are merged.
        for first in [block, block.saturating_sub(1)] {
            if let Some([one, next]) = self.blocks.get(first..first + 2)
                && one.len() + next.len() <= self.max_block / 2
            {
                let mut next = self.blocks.remove(first + 1);
                self.starts.remove(first + 1);
                self.blocks[first].append(&mut next);
                break;
            }
        }
        true
    }

    /// Returns the index of the block that holds the element or would hold it.
    fn block_of(&self, element: &T) -> usize {
        let after = self
            .blocks
            .partition_point(|block| block.first().is_some_and(|first| first <= element));
        after.saturating_sub(1)
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

    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_set(
            max_block in 2..9_usize,
            changes in vec((any::<bool>(), 0..60_u8), 0..400),
            shrinking in vec(0..60_u8, 0..120),
        ) {
            let (mut ours, mut model) = (Sorted::with_max_block(max_block), BTreeSet::new());
            let shrinking = shrinking.into_iter().map(|element| (false, element));
            for (is_more, element) in changes.into_iter().chain(shrinking) {
                if is_more {
                    prop_assert_eq!(ours.insert(element), model.insert(element));
                } else {
                    prop_assert_eq!(ours.remove(&element), model.remove(&element));
                }
                prop_assert_eq!(ours.len(), model.len());
                prop_assert_eq!(ours.rank(&element), model.range(..element).count());
                let place = usize::from(element) % (model.len() + 2);
                prop_assert!(ours.from(place).eq(model.iter().skip(place)));
                let is_bounded = |block: &Vec<u8>| (1..=max_block).contains(&block.len());
                prop_assert!(ours.blocks.iter().all(is_bounded), "{:?}", ours.blocks);
            }
            // No two neighbouring blocks are small enough to be merged.
            let is_large = |pair: &[Vec<u8>]| pair[0].len() + pair[1].len() > max_block / 2;
            prop_assert!(ours.blocks.windows(2).all(is_large), "{:?}", ours.blocks);
        }
    }
}
