//! Tests of the leaderboard against a sorted list, and of its size.

use std::{cmp::Ordering, collections::HashMap};

use base::{clock::Timestamp, ids::UserId};
use proptest::{collection::vec, prelude::*};
use uuid::Uuid;

use super::*;

/// Goal for the memory of a player, in bytes.
const GOAL: usize = 64;

type Rows = HashMap<UserId, Standing>;

/// Wins, losses and draws.
type Results = (u32, u32, u32);

fn user(id: u128) -> UserId {
    UserId::from_uuid(Uuid::from_u128(id))
}

fn standing((wins, losses, draws): Results, time: i64) -> Standing {
    Standing {
        wins,
        losses,
        draws,
        last_finish_time: Timestamp::from_micros(time),
    }
}

/// Compares by ratio and wins as they are defined, in integer arithmetic.
fn by_results(a: &Standing, b: &Standing) -> Ordering {
    let others = |row: &Standing| u64::from((row.losses + row.draws).max(1));
    (u64::from(b.wins) * others(a))
        .cmp(&(u64::from(a.wins) * others(b)))
        .then(b.wins.cmp(&a.wins))
}

/// Returns all ranked players in order, with ranks found by counting.
fn whole(rows: &Rows, min_games: i64) -> Vec<RankedPlayer> {
    let mut sorted: Vec<_> = rows.iter().filter(|(_, row)| row.games() >= min_games).collect();
    sorted.sort_by(|(a_id, a), (b_id, b)| {
        by_results(a, b)
            .then(a.last_finish_time.cmp(&b.last_finish_time))
            .then(a_id.cmp(b_id))
    });
    let above = |row: &Standing| {
        sorted
            .iter()
            .filter(|(_, other)| by_results(other, row).is_lt())
            .count()
    };
    let ranked = |(id, row): &(&UserId, &Standing)| RankedPlayer {
        rank: i64::try_from(above(row)).expect("few") + 1,
        user_id: **id,
        standing: **row,
    };
    sorted.iter().map(ranked).collect()
}

/// Sets the results of a player in both the leaderboard and the list.
fn set(ours: &mut Ranks, rows: &mut Rows, id: UserId, standing: Standing) {
    if standing.games() == 0 {
        rows.remove(&id);
    } else {
        rows.insert(id, standing);
    }
    ours.set(id, standing);
}

/// Asserts that all answers of the leaderboard follow from the list.
fn check(ours: &Ranks, rows: &Rows, min_games: i64, limit: usize) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.len(), rows.len());
    let all = whole(rows, min_games);
    prop_assert_eq!(&ours.top(1000), &all);
    prop_assert_eq!(&ours.top(limit), &all[..limit.min(all.len())]);
    for (id, row) in rows {
        let player = ours.player(*id).expect("a player");
        prop_assert_eq!((player.user_id, player.standing), (*id, *row));
        let place = all.iter().position(|other| other.user_id == *id);
        let around = ours.around(*id, limit);
        let Some(place) = place else {
            prop_assert_eq!((player.rank, around.len()), (0, 0));
            continue;
        };
        prop_assert_eq!(&player, &all[place]);
        prop_assert_eq!(around.len(), limit.min(all.len()));
        let first = all.iter().position(|other| *other == around[0]).expect("there");
        prop_assert_eq!(&around[..], &all[first..first + around.len()]);
        // The player is in the middle if there are enough others on both sides.
        let is_middle = place - first == (limit - 1) / 2;
        prop_assert!(is_middle || first == 0 || first + around.len() == all.len());
    }
    Ok(())
}

#[test]
fn equal_players_share_a_rank_and_leave_a_gap() {
    let mut all = Ranks::new(1);
    for (id, results) in [(4, 2, 0), (4, 1, 1), (2, 1, 0), (2, 2, 0), (2, 0, 2), (0, 1, 0)]
        .into_iter()
        .enumerate()
    {
        all.set(user(id as u128), standing(results, 7));
    }
    let ranks: Vec<i64> = all.top(10).iter().map(|ranked| ranked.rank).collect();
    assert_eq!(ranks, [1, 1, 3, 4, 4, 6]);
}

#[test]
fn an_unchanged_player_changes_nothing() {
    let mut all = Ranks::new(1);
    let mut versions = Vec::new();
    for results in [(0, 0, 0), (1, 0, 0), (1, 0, 0), (1, 1, 0), (0, 0, 0), (0, 0, 0)] {
        all.set(user(1), standing(results, 7));
        versions.push(all.version());
    }
    assert_eq!(versions, [0, 1, 1, 2, 3, 3]);
}

proptest! {
    #[test]
    fn ranks_match_a_plain_count(
        loaded in vec((0..4_u32, 0..3_u32, 0..2_u32), 0..40),
        changes in vec((0..60_u128, (0..5_u32, 0..4_u32, 0..3_u32), 0..4_i64), 0..120),
        min_games in 1..4_i64,
        limit in 1..12_usize,
    ) {
        // Players loaded at once and players set one by one must end up in the same order.
        let (mut builder, mut rows) = (RanksBuilder::new(min_games), Rows::new());
        for (id, results) in loaded.into_iter().enumerate() {
            let (id, standing) = (user(id as u128), standing(results, i64::from(results.0 % 2)));
            builder.add(id, standing);
            if standing.games() > 0 {
                rows.insert(id, standing);
            }
        }
        let mut ours = builder.finish();
        check(&ours, &rows, min_games, limit)?;
        for (id, results, time) in changes {
            set(&mut ours, &mut rows, user(id), standing(results, time));
        }
        check(&ours, &rows, min_games, limit)?;
    }
}

/// Adds players with up to a hundred games each, whose results follow from their numbers.
fn numbered(numbers: std::ops::Range<u32>) -> impl Iterator<Item = (UserId, Standing)> {
    numbers.map(|number| {
        let mixed = number.wrapping_mul(2_654_435_761);
        let results = (1 + mixed % 40, mixed / 40 % 30, mixed / 1200 % 30);
        // Ids in the order of the numbers, as UUIDv7 are.
        (user(u128::from(number) << 64), standing(results, i64::from(mixed)))
    })
}

/// Asserts that the leaderboard keeps to the goal. Each part counts at least what it holds.
fn fits(ours: &Ranks) {
    let parts = [
        (ours.players.allocated_bytes(), size_of::<Player>()),
        (ours.index.allocated_bytes(), size_of::<u32>()),
        (ours.places.allocated_bytes(), size_of::<u32>()),
    ];
    assert!(
        parts.iter().all(|(bytes, each)| *bytes >= each * ours.len()),
        "{parts:?}"
    );
    assert_eq!(
        ours.allocated_bytes(),
        parts.iter().map(|(bytes, _)| bytes).sum::<usize>()
    );
    let bytes = ours.allocated_bytes().div_ceil(ours.len());
    assert!(bytes <= GOAL, "{bytes} bytes for each of {} players", ours.len());
}

#[test]
fn a_player_takes_at_most_64_bytes_even_after_growth_and_changes() {
    // The shards of the hash table are nearly full with 28,500 players, and half empty with 32,000.
    for count in [28_500, 32_000] {
        let mut builder = RanksBuilder::new(1);
        for (id, standing) in numbered(0..count) {
            builder.add(id, standing);
        }
        let mut ours = builder.finish();
        fits(&ours);
        for (id, standing) in numbered(count..count + count / 5) {
            ours.set(id, standing);
        }
        fits(&ours);
        // Every player finishes a game.
        for (id, mut standing) in numbered(0..count) {
            standing.losses += 1;
            ours.set(id, standing);
        }
        fits(&ours);
        // A fifth of the players leaves, and as many come.
        for (id, _) in numbered(0..count / 5) {
            ours.set(id, standing((0, 0, 0), 0));
        }
        for (id, standing) in numbered(2 * count..2 * count + count / 5) {
            ours.set(id, standing);
        }
        fits(&ours);
    }
}

#[test]
fn growth_by_a_fifth_needs_memory_for_the_new_players_only() {
    let count = 40_000;
    let mut ours = Ranks::new(1);
    for (id, standing) in numbered(0..count) {
        ours.set(id, standing);
    }
    let mut before = ours.allocated_bytes();
    for (id, standing) in numbered(count..count + count / 5) {
        ours.set(id, standing);
        let now = ours.allocated_bytes();
        // A chunk of players, or a shard of the hash table, at a time.
        assert!(now <= before + 512 * 1024, "{before} to {now}");
        before = now;
    }
}
