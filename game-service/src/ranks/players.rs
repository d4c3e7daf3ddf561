//! Results of all players, each at a fixed index.
//!
//! The players are kept in chunks. A new chunk leaves the others where they are, so growing neither
//! copies them nor needs memory for both an old and a new copy.

use base::ids::UserId;

use super::{key::RankKey, standing::Standing};

/// Number of players in a chunk.
const CHUNK: usize = 1 << 13;

/// Results of all players, as described in the module documentation.
#[derive(Debug, Default)]
pub(super) struct Players {
    chunks: Vec<Vec<Player>>,
    /// Indexes of removed players, which new players get.
    free: Vec<u32>,
}

/// A player's id and results.
#[derive(Clone, Copy, Debug)]
pub(super) struct Player {
    pub(super) id: UserId,
    pub(super) standing: Standing,
}

impl Players {
    /// Adds a player and returns the index.
    pub(super) fn add(&mut self, player: Player) -> u32 {
        if let Some(index) = self.free.pop() {
            *self.slot(index) = player;
            return index;
        }
        let index = self.slots();
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(player),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(player);
                self.chunks.push(chunk);
            }
        }
        index
    }

    /// Returns the player at this index.
    #[inline]
    pub(super) fn get(&self, index: u32) -> &Player {
        let (chunk, offset) = place(index);
        &self.chunks[chunk][offset]
    }

    /// Returns the sort key of the player at this index.
    #[inline]
    pub(super) fn key(&self, index: u32) -> RankKey {
        let player = self.get(index);
        RankKey::new(player.id, &player.standing)
    }

    /// Replaces the results of the player at this index.
    pub(super) fn update(&mut self, index: u32, standing: Standing) {
        self.slot(index).standing = standing;
    }

    /// Frees the index of a removed player.
    pub(super) fn remove(&mut self, index: u32) {
        self.free.push(index);
    }

    /// Returns the number of indexes in use, including those of removed players.
    pub(super) fn slots(&self) -> u32 {
        let last = self.chunks.last().map_or(0, Vec::len);
        let slots = self.chunks.len().saturating_sub(1) * CHUNK + last;
        u32::try_from(slots).expect("fewer than 2^32 players")
    }

    /// Returns the number of bytes allocated.
    pub(super) fn allocated_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Vec::capacity).sum();
        chunks * size_of::<Player>()
            + self.chunks.capacity() * size_of::<Vec<Player>>()
            + self.free.capacity() * size_of::<u32>()
    }

    fn slot(&mut self, index: u32) -> &mut Player {
        let (chunk, offset) = place(index);
        &mut self.chunks[chunk][offset]
    }
}

/// Returns the chunk of an index, and the offset within it.
#[inline]
const fn place(index: u32) -> (usize, usize) {
    (index as usize / CHUNK, index as usize % CHUNK)
}

#[cfg(test)]
mod tests {
    use base::clock::Timestamp;

    use super::*;

    fn player(wins: u32) -> Player {
        Player {
            id: UserId::generate(),
            standing: Standing {
                wins,
                losses: 0,
                draws: 0,
                last_finish_time: Timestamp::from_micros(0),
            },
        }
    }

    #[test]
    fn an_entry_is_forty_bytes() {
        assert_eq!(size_of::<Player>(), 40);
    }

    #[test]
    fn players_stay_where_they_are_and_free_indexes_are_reused() {
        let mut players = Players::default();
        let count = u32::try_from(2 * CHUNK + 1).expect("small");
        for index in 0..count {
            assert_eq!(players.add(player(index)), index);
        }
        let allocated = players.allocated_bytes();
        let removed = [7, count - 1, 0];
        for index in removed {
            players.remove(index);
        }
        for index in removed.into_iter().rev() {
            assert_eq!(players.add(player(index)), index);
        }
        assert!((0..count).all(|index| players.get(index).standing.wins == index));
        assert_eq!(players.slots(), count);
        assert!(
            players.allocated_bytes() <= allocated + 64,
            "the list of free indexes is small"
        );
    }
}
