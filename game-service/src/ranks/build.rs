//! Creation of a leaderboard from all players at once.
//!
//! Sorting all players once takes a fraction of the time of inserting them one by one.

use base::ids::UserId;

use super::{
    Ranks, Standing,
    index::Index,
    key::RankKey,
    players::{Player, Players},
    sorted::Sorted,
};

/// Leaderboard that is still being filled.
#[derive(Debug)]
pub struct RanksBuilder {
    players: Players,
    min_games: i64,
}

/// Player to sort. Holds a copy of the part of the key that is being sorted by, because reading it
/// from the player for each comparison would miss the processor's caches.
struct Slot {
    part: u64,
    index: u32,
}

impl RanksBuilder {
    /// Starts a leaderboard like that of [`Ranks::new`].
    pub fn new(min_games: i64) -> Self {
        Self {
            players: Players::default(),
            min_games,
        }
    }

    /// Adds a player, who must not have been added before. Ignores a player without finished games.
    pub fn add(&mut self, id: UserId, standing: Standing) {
        if standing.games() > 0 {
            self.players.add(Player { id, standing });
        }
    }

    /// Sorts the players. This takes seconds of processor time if there are many millions.
    pub fn finish(self) -> Ranks {
        let players = self.players;
        let count = players.slots();
        let is_ranked = |index: &u32| players.get(*index).standing.games() >= self.min_games;
        // The slots are freed before the table is made, to keep the peak of memory low.
        let places = {
            let mut slots = Vec::with_capacity(count as usize);
            slots.extend((0..count).filter(is_ranked).map(|index| Slot { part: 0, index }));
            sort(&mut slots, 0, &players);
            Sorted::from_sorted(slots.iter().map(|slot| slot.index), |index| players.key(index))
        };
        let mut index = Index::with_capacity(count as usize);
        for player in 0..count {
            index.insert(player, &players);
        }
        Ranks {
            players,
            index,
            places,
            min_games: self.min_games,
            version: 0,
        }
    }
}

/// Sorts players whose keys are equal in all parts before this one.
fn sort(slots: &mut [Slot], part: usize, players: &Players) {
    if slots.len() < 2 || part == RankKey::PARTS {
        return;
    }
    for slot in &mut *slots {
        slot.part = players.key(slot.index).part(part);
    }
    slots.sort_unstable_by_key(|slot| slot.part);
    for equals in slots.chunk_by_mut(|one, next| one.part == next.part) {
        sort(equals, part + 1, players);
    }
}
