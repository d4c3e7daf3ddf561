//! Sort key of a player.

use std::cmp::Reverse;

use base::{clock::Timestamp, ids::UserId};

use super::standing::Standing;

/// Sort key of a player. A better player has a smaller key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RankKey {
    /// Bits of the ratio. They sort like the ratios themselves, since none is negative.
    win_ratio: Reverse<u64>,
    wins: Reverse<u32>,
    last_finish_time: Timestamp,
    user_id: UserId,
}

impl RankKey {
    /// Number of values that [`Self::part`] splits a key into.
    pub(super) const PARTS: usize = 5;

    #[inline]
    pub(super) fn new(user_id: UserId, standing: &Standing) -> Self {
        Self {
            win_ratio: Reverse(standing.win_ratio().to_bits()),
            wins: Reverse(standing.wins),
            last_finish_time: standing.last_finish_time,
            user_id,
        }
    }

    /// Returns the smallest key with the same ratio and wins, which no player has.
    pub(super) fn first_of_rank(&self) -> Self {
        Self {
            last_finish_time: Timestamp::from_micros(i64::MIN),
            user_id: UserId::from_uuid(uuid::Uuid::nil()),
            ..*self
        }
    }

    pub(super) fn shares_rank(&self, other: &Self) -> bool {
        (self.win_ratio, self.wins) == (other.win_ratio, other.wins)
    }

    /// Returns one of the integers that a key consists of. Keys sort like their parts, the first
    /// part counting most.
    #[inline]
    pub(super) fn part(&self, part: usize) -> u64 {
        let (high, low) = self.user_id.as_uuid().as_u64_pair();
        match part {
            0 => !self.win_ratio.0,
            1 => !u64::from(self.wins.0),
            // Flipping the sign bit makes unsigned integers sort like the signed ones.
            2 => self.last_finish_time.as_micros().cast_unsigned() ^ (1 << 63),
            3 => high,
            _ => low,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::{super::standing::win_ratio, *};

    fn key((id, wins, losses, time): (u128, u32, u32, i64)) -> RankKey {
        let standing = Standing {
            wins,
            losses,
            draws: 0,
            last_finish_time: Timestamp::from_micros(time),
        };
        RankKey::new(UserId::from_uuid(Uuid::from_u128(id)), &standing)
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
        fn keys_sort_like_their_parts(
            one in (any::<u128>(), 0..4_u32, 0..4_u32, -2..2_i64),
            two in (any::<u128>(), 0..4_u32, 0..4_u32, -2..2_i64),
            is_same_player: bool,
        ) {
            let two = if is_same_player { (one.0, two.1, two.2, two.3) } else { two };
            let (one, two) = (key(one), key(two));
            let parts = |key: RankKey| (0..RankKey::PARTS).map(move |part| key.part(part));
            prop_assert_eq!(one.cmp(&two), parts(one).cmp(parts(two)));
            prop_assert!(one.first_of_rank() < one && one.first_of_rank().shares_rank(&one));
        }
    }
}
