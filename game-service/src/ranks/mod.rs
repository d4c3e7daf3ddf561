//! Order of the leaderboard, in memory.
//!
//! Players are ordered by win ratio, then by wins, then by the time of their last game, earliest
//! first, then by id. A rank is one more than the number of players above. Players with equal ratio
//! and wins share a rank (1, 1, 3).
//!
//! A query takes time logarithmic in the number of players and linear in the number of players in
//! the answer.

mod sorted;

use std::{cmp::Reverse, collections::HashMap};

use base::{clock::Timestamp, ids::UserId};

use self::sorted::Sorted;

/// All players who have finished a game, and the order of those who have finished enough to be
/// ranked.
#[derive(Debug)]
pub struct Ranks {
    players: HashMap<UserId, Standing>,
    places: Sorted<RankKey>,
    /// Number of finished games that a player needs to be ranked, at least 1.
    min_games: i64,
}

/// A player and their rank.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedPlayer {
    /// Rank, from 1. Players with equal ratio and wins share a rank (1, 1, 3). 0 if the player is
    /// not ranked.
    pub rank: i64,
    /// Id of the player.
    pub user_id: UserId,
    /// Login of the player. Empty if the user was deleted.
    pub login: String,
    /// Games won.
    pub wins: i64,
    /// Games lost.
    pub losses: i64,
    /// Games drawn.
    pub draws: i64,
}

/// Results of a player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Login of the player. Empty if the user was deleted.
    pub login: Box<str>,
    /// Games won.
    pub wins: i64,
    /// Games lost.
    pub losses: i64,
    /// Games drawn.
    pub draws: i64,
    /// Time at which the last of these games ended.
    pub last_finish_time: Timestamp,
}

/// Sort key of a player. A better player has a smaller key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RankKey {
    /// Bits of the ratio. They sort like the ratios themselves, since none is negative.
    win_ratio: Reverse<u64>,
    wins: Reverse<i64>,
    last_finish_time: Timestamp,
    user_id: UserId,
}

impl Ranks {
    /// Creates an empty leaderboard. Players are ranked once they have finished `min_games` games,
    /// which must be at least 1.
    pub fn new(min_games: i64) -> Self {
        Self {
            players: HashMap::new(),
            places: Sorted::new(),
            min_games,
        }
    }

    /// Returns the number of players who have finished a game.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.players.len()
    }

    /// Sets the current results of a player. A player without finished games is removed.
    pub fn set(&mut self, id: UserId, now: Standing) {
        let place = self.place_of(id, &now);
        let before = if now.games() > 0 {
            self.players.insert(id, now)
        } else {
            self.players.remove(&id)
        };
        let before = before.and_then(|before| self.place_of(id, &before));
        if before == place {
            return;
        }
        if let Some(before) = before {
            self.places.remove(&before);
        }
        if let Some(place) = place {
            self.places.insert(place);
        }
    }

    /// Returns the best players, at most `limit`.
    pub fn top(&self, limit: usize) -> Vec<RankedPlayer> {
        self.range(0, limit.min(self.places.len()))
    }

    /// Returns a player and the number of games that the player still has to finish to be ranked.
    /// `None` if the player has not finished any game.
    pub fn player(&self, id: UserId) -> Option<(RankedPlayer, i64)> {
        let standing = self.players.get(&id)?;
        let rank = self.place_of(id, standing).map_or(0, |place| self.rank(&place));
        let needed = (self.min_games - standing.games()).max(0);
        Some((standing.ranked(id, rank), needed))
    }

    /// Returns a player and the neighbours, `limit` entries in all. There are as many above as
    /// below, or one more below if `limit` is even. If one side has too few, the other side shows
    /// more. Empty if the player is not ranked.
    pub fn around(&self, id: UserId, limit: usize) -> Vec<RankedPlayer> {
        let place = self.players.get(&id).and_then(|standing| self.place_of(id, standing));
        let Some(place) = place else { return Vec::new() };
        let above = self.places.rank(&place);
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
        for (above, place) in (from..to).zip(self.places.from(from)) {
            let rank = match before {
                Some((before, rank)) if before.shares_rank(place) => rank,
                Some(_) => i64::try_from(above).unwrap_or(i64::MAX) + 1,
                None => self.rank(place),
            };
            before = Some((*place, rank));
            if let Some(standing) = self.players.get(&place.user_id) {
                ranked.push(standing.ranked(place.user_id, rank));
            }
        }
        ranked
    }

    fn rank(&self, place: &RankKey) -> i64 {
        let first = RankKey {
            last_finish_time: Timestamp::from_micros(i64::MIN),
            user_id: UserId::from_uuid(uuid::Uuid::nil()),
            ..*place
        };
        i64::try_from(self.places.rank(&first)).unwrap_or(i64::MAX) + 1
    }

    /// Returns the sort key of a player with these results. `None` if the player has not finished
    /// enough games to be ranked.
    fn place_of(&self, user_id: UserId, standing: &Standing) -> Option<RankKey> {
        (standing.games() >= self.min_games).then(|| RankKey {
            win_ratio: Reverse(win_ratio(standing.wins, standing.losses, standing.draws).to_bits()),
            wins: Reverse(standing.wins),
            last_finish_time: standing.last_finish_time,
            user_id,
        })
    }
}

impl Standing {
    const fn games(&self) -> i64 {
        self.wins + self.losses + self.draws
    }

    fn ranked(&self, user_id: UserId, rank: i64) -> RankedPlayer {
        RankedPlayer {
            rank,
            user_id,
            login: self.login.to_string(),
            wins: self.wins,
            losses: self.losses,
            draws: self.draws,
        }
    }
}

impl RankKey {
    fn shares_rank(&self, other: &Self) -> bool {
        (self.win_ratio, self.wins) == (other.win_ratio, other.wins)
    }
}

impl RankedPlayer {
    /// Creates the entry of a player who has not finished any game.
    pub(crate) const fn new(user_id: UserId, login: String) -> Self {
        Self {
            rank: 0,
            user_id,
            login,
            wins: 0,
            losses: 0,
            draws: 0,
        }
    }

    /// Returns `wins / max(1, losses + draws)`.
    pub fn win_ratio(&self) -> f64 {
        win_ratio(self.wins, self.losses, self.draws)
    }
}

/// Returns `wins / max(1, losses + draws)`.
///
/// An `f64` orders players exactly. The quotient is correctly rounded, so equal ratios are equal.
/// Two different ratios of counts below 2^26 differ by more than one unit in the last of the 53
/// bits.
#[expect(clippy::cast_precision_loss, reason = "nobody plays 2^53 games")]
fn win_ratio(wins: i64, losses: i64, draws: i64) -> f64 {
    wins as f64 / (losses + draws).max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::{collection::vec, prelude::*};
    use uuid::Uuid;

    use super::*;

    #[derive(Clone)]
    struct Row {
        user_id: UserId,
        wins: i64,
        losses: i64,
        draws: i64,
        last_finish_time: Timestamp,
    }

    fn row(id: u128, (wins, losses, draws): (i64, i64, i64), time: i64) -> Row {
        Row {
            user_id: UserId::from_uuid(Uuid::from_u128(id)),
            wins,
            losses,
            draws,
            last_finish_time: Timestamp::from_micros(time),
        }
    }

    fn set(ranks: &mut Ranks, row: &Row) {
        let standing = Standing {
            login: row.user_id.to_string().into(),
            wins: row.wins,
            losses: row.losses,
            draws: row.draws,
            last_finish_time: row.last_finish_time,
        };
        ranks.set(row.user_id, standing);
    }

    fn ranks(ranked: &[RankedPlayer]) -> Vec<i64> {
        ranked.iter().map(|ranked| ranked.rank).collect()
    }

    /// Compares by ratio and wins as they are defined, in integer arithmetic.
    fn by_results(a: &Row, b: &Row) -> Ordering {
        let others = |row: &Row| (row.losses + row.draws).max(1);
        (b.wins * others(a))
            .cmp(&(a.wins * others(b)))
            .then(b.wins.cmp(&a.wins))
    }

    fn best_first(a: &Row, b: &Row) -> Ordering {
        by_results(a, b)
            .then(a.last_finish_time.cmp(&b.last_finish_time))
            .then(a.user_id.cmp(&b.user_id))
    }

    /// Returns all ranked players in order, with ranks found by counting.
    fn whole(rows: &HashMap<UserId, Row>, min_games: i64) -> Vec<RankedPlayer> {
        let enough = |row: &&Row| row.wins + row.losses + row.draws >= min_games;
        let mut sorted: Vec<&Row> = rows.values().filter(enough).collect();
        sorted.sort_by(|a, b| best_first(a, b));
        let above = |row: &Row| {
            let is_above = |other: &&&Row| by_results(other, row).is_lt();
            i64::try_from(sorted.iter().filter(is_above).count()).expect("few")
        };
        let ranked = |row: &&Row| RankedPlayer {
            rank: above(row) + 1,
            wins: row.wins,
            losses: row.losses,
            draws: row.draws,
            ..RankedPlayer::new(row.user_id, row.user_id.to_string())
        };
        sorted.iter().map(ranked).collect()
    }

    #[test]
    fn equals_share_a_rank_and_leave_a_gap() {
        let mut all = Ranks::new(1);
        for (id, results) in [(4, 2, 0), (4, 1, 1), (2, 1, 0), (2, 2, 0), (2, 0, 2), (0, 1, 0)]
            .into_iter()
            .enumerate()
        {
            set(&mut all, &row(id as u128, results, 7));
        }
        assert_eq!(ranks(&all.top(10)), [1, 1, 3, 4, 4, 6]);
    }

    #[test]
    fn the_ratio_is_as_defined() {
        for (wins, losses, draws, expected) in [(0, 0, 0, 0.0), (3, 0, 0, 3.0), (3, 1, 0, 3.0), (1, 2, 2, 0.25)] {
            assert!((win_ratio(wins, losses, draws) - expected).abs() < f64::EPSILON);
        }
    }

    #[test]
    fn close_ratios_are_told_apart_and_equal_ones_are_equal() {
        let big = (1 << 26) - 1;
        assert!(
            win_ratio(big, big - 1, 0) > win_ratio(big - 1, big - 2, 0)
                || win_ratio(big, big - 1, 0) < win_ratio(big - 1, big - 2, 0)
        );
        assert_eq!(
            win_ratio(1, 3, 0).to_bits(),
            win_ratio(big / 3, 0, big / 3 * 3).to_bits()
        );
    }

    proptest! {
        #[test]
        fn everybody_stands_where_counting_says(
            changes in vec((0..40_u128, (0..5_i64, 0..4_i64, 0..3_i64), 0..4_i64), 0..120),
            min_games in 1..4_i64,
            limit in 1..12_usize,
        ) {
            let (mut ours, mut rows) = (Ranks::new(min_games), HashMap::new());
            for (id, results, time) in changes {
                let row = row(id, results, time);
                if results == (0, 0, 0) {
                    rows.remove(&row.user_id);
                } else {
                    rows.insert(row.user_id, row.clone());
                }
                set(&mut ours, &row);
            }
            prop_assert_eq!(ours.len(), rows.len());
            let all = whole(&rows, min_games);
            prop_assert_eq!(&ours.top(1000), &all);
            prop_assert_eq!(&ours.top(limit), &all[..limit.min(all.len())]);
            for row in rows.values() {
                let (player, needed) = ours.player(row.user_id).expect("a player");
                let place = all.iter().position(|other| other.user_id == row.user_id);
                prop_assert_eq!(needed, (min_games - row.wins - row.losses - row.draws).max(0));
                let around = ours.around(row.user_id, limit);
                let Some(place) = place else {
                    prop_assert_eq!((player.rank, around.len()), (0, 0));
                    continue;
                };
                prop_assert_eq!(&player, &all[place]);
                prop_assert_eq!(around.len(), limit.min(all.len()));
                let first = all.iter().position(|other| *other == around[0]).expect("there");
                prop_assert_eq!(&around[..], &all[first..first + around.len()]);
                // The player is in the middle if there are enough others on both sides.
                let above = place - first;
                let is_middle = above == (limit - 1) / 2;
                prop_assert!(is_middle || first == 0 || first + around.len() == all.len());
            }
        }
    }
}
