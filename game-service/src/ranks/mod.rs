//! Order of the leaderboard, in memory.
//!
//! Players are ordered by win ratio, then by wins, then by the time of their last game, earliest
//! first, then by id. A rank is one more than the number of players above. Players with equal ratio
//! and wins share a rank (1, 1, 3).
//!
//! A query takes time logarithmic in the number of players and linear in the number of players in
//! the answer. A player takes at most 64 bytes. Their results are stored once, and everything else
//! refers to them by a 32-bit index.

mod build;
mod index;
mod key;
mod players;
mod sorted;
mod standing;
#[cfg(test)]
mod tests;

use base::{clock::Timestamp, ids::UserId};

pub use self::{build::RanksBuilder, standing::Standing};
use self::{
    index::Index,
    key::RankKey,
    players::{Player, Players},
    sorted::Sorted,
};

/// All players who have finished a game, and the order of those who have finished enough to be
/// ranked.
#[derive(Debug)]
pub struct Ranks {
    players: Players,
    /// Index of each player, by id.
    index: Index,
    /// Order of the ranked players, by index.
    places: Sorted<RankKey>,
    /// Number of finished games that a player needs to be ranked, at least 1.
    min_games: i64,
    version: u64,
}

/// A player and their rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankedPlayer {
    /// Rank, from 1. Players with equal ratio and wins share a rank (1, 1, 3). 0 if the player is
    /// not ranked.
    pub rank: i64,
    /// Id of the player.
    pub user_id: UserId,
    /// Results of the player.
    pub standing: Standing,
}

impl Ranks {
    /// Creates an empty leaderboard. Players are ranked once they have finished `min_games` games,
    /// which must be at least 1.
    pub fn new(min_games: i64) -> Self {
        Self {
            players: Players::default(),
            index: Index::new(),
            places: Sorted::new(),
            min_games,
            version: 0,
        }
    }

    /// Returns the number of players who have finished a game.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub const fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns a number that grows with every change. While it stays the same, so do all answers.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Returns the number of bytes allocated.
    pub fn allocated_bytes(&self) -> usize {
        self.players.allocated_bytes() + self.index.allocated_bytes() + self.places.allocated_bytes()
    }

    /// Sets the current results of a player. A player without finished games is removed.
    pub fn set(&mut self, id: UserId, now: Standing) {
        let Some(index) = self.index.find(id, &self.players) else {
            if now.games() > 0 {
                self.version += 1;
                let index = self.players.add(Player { id, standing: now });
                self.index.insert(index, &self.players);
                self.rank(index);
            }
            return;
        };
        if self.players.get(index).standing == now {
            return;
        }
        self.version += 1;
        self.unrank(index);
        if now.games() > 0 {
            self.players.update(index, now);
            self.rank(index);
        } else {
            self.index.remove(id, &self.players);
            self.players.remove(index);
        }
    }

    /// Returns the best players, at most `limit`.
    pub fn top(&self, limit: usize) -> Vec<RankedPlayer> {
        self.range(0, limit.min(self.places.len()))
    }

    /// Returns a player. `None` if the player has not finished any game.
    pub fn player(&self, id: UserId) -> Option<RankedPlayer> {
        let player = self.players.get(self.index.find(id, &self.players)?);
        let rank = self.place_of(player).map_or(0, |place| self.rank_of(&place));
        Some(player.ranked(rank))
    }

    /// Returns a player and the neighbours, `limit` entries in all. There are as many above as
    /// below, or one more below if `limit` is even. If one side has too few, the other side shows
    /// more. Empty if the player is not ranked.
    pub fn around(&self, id: UserId, limit: usize) -> Vec<RankedPlayer> {
        let player = self.index.find(id, &self.players);
        let place = player.and_then(|index| self.place_of(self.players.get(index)));
        let Some(place) = place else { return Vec::new() };
        let above = self.above(&place);
        let below = self.places.len() - above - 1;
        let others = limit.saturating_sub(1);
        let shown_above = above.min((others / 2).max(others.saturating_sub(below)));
        let shown_below = below.min(others - shown_above);
        self.range(above - shown_above, above + shown_below + 1)
    }

    /// Returns the players from place `from` up to, but not including, place `to`.
    fn range(&self, from: usize, to: usize) -> Vec<RankedPlayer> {
        let mut before: Option<(RankKey, i64)> = None;
        let mut ranked = Vec::with_capacity(to - from);
        for (above, index) in (from..to).zip(self.places.from(from)) {
            let place = self.players.key(index);
            let rank = match before {
                Some((before, rank)) if before.shares_rank(&place) => rank,
                Some(_) => i64::try_from(above).unwrap_or(i64::MAX) + 1,
                None => self.rank_of(&place),
            };
            before = Some((place, rank));
            ranked.push(self.players.get(index).ranked(rank));
        }
        ranked
    }

    /// Returns the rank of the players with the ratio and wins of this key.
    fn rank_of(&self, place: &RankKey) -> i64 {
        i64::try_from(self.above(&place.first_of_rank())).unwrap_or(i64::MAX) + 1
    }

    /// Returns the number of players with smaller keys.
    fn above(&self, place: &RankKey) -> usize {
        self.places.rank(place, |index| self.players.key(index))
    }

    /// Adds a player to the order, if the player has finished enough games.
    fn rank(&mut self, index: u32) {
        let players = &self.players;
        if players.get(index).standing.games() >= self.min_games {
            self.places.insert(index, |index| players.key(index));
        }
    }

    /// Removes a player from the order.
    fn unrank(&mut self, index: u32) {
        if let Some(place) = self.place_of(self.players.get(index)) {
            let players = &self.players;
            self.places.remove(&place, |index| players.key(index));
        }
    }

    /// Returns the sort key of a player. `None` if the player has not finished enough games to be
    /// ranked.
    fn place_of(&self, player: &Player) -> Option<RankKey> {
        (player.standing.games() >= self.min_games).then(|| RankKey::new(player.id, &player.standing))
    }
}

impl RankedPlayer {
    /// Creates the entry of a player who has not finished any game.
    pub(crate) const fn newcomer(user_id: UserId) -> Self {
        Self {
            rank: 0,
            user_id,
            standing: Standing {
                wins: 0,
                losses: 0,
                draws: 0,
                last_finish_time: Timestamp::from_micros(0),
            },
        }
    }
}

impl Player {
    const fn ranked(&self, rank: i64) -> RankedPlayer {
        RankedPlayer {
            rank,
            user_id: self.id,
            standing: self.standing,
        }
    }
}
