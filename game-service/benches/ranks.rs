//! Cost of queries and updates of the leaderboard, and of sorting it whole, with few players and
//! with many.

use base::{clock::Timestamp, ids::UserId};
use divan::{Bencher, black_box};
use game_service::ranks::{Ranks, RanksBuilder, Standing};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

fn main() {
    divan::main();
}

const PLAYERS: [usize; 3] = [1_000, 100_000, 1_000_000];

/// Creates players with up to a hundred games each. Their results are the same in every run.
fn leaderboard(players: usize) -> (Ranks, Vec<UserId>, StdRng) {
    let (builder, ids, random) = unsorted(players);
    (builder.finish(), ids, random)
}

fn unsorted(players: usize) -> (RanksBuilder, Vec<UserId>, StdRng) {
    let (mut builder, mut random) = (RanksBuilder::new(1), StdRng::seed_from_u64(7));
    let ids: Vec<UserId> = (0..players).map(|_| UserId::generate()).collect();
    for id in &ids {
        builder.add(*id, standing(&mut random));
    }
    (builder, ids, random)
}

fn standing(random: &mut StdRng) -> Standing {
    let games = random.random_range(1..=100);
    let wins = random.random_range(0..=games);
    let losses = random.random_range(0..=games - wins);
    Standing {
        wins,
        losses,
        draws: games - wins - losses,
        last_finish_time: Timestamp::from_micros(random.random_range(0..1 << 50)),
    }
}

#[divan::bench(args = PLAYERS)]
fn top_10(bencher: Bencher<'_, '_>, players: usize) {
    let (ranks, ..) = leaderboard(players);
    bencher.bench(|| ranks.top(black_box(10)));
}

#[divan::bench(args = PLAYERS)]
fn rank_of_one(bencher: Bencher<'_, '_>, players: usize) {
    let (ranks, ids, mut random) = leaderboard(players);
    bencher
        .with_inputs(|| ids[random.random_range(0..ids.len())])
        .bench_local_values(|id| ranks.player(id));
}

#[divan::bench(args = PLAYERS)]
fn ten_around_one(bencher: Bencher<'_, '_>, players: usize) {
    let (ranks, ids, mut random) = leaderboard(players);
    bencher
        .with_inputs(|| ids[random.random_range(0..ids.len())])
        .bench_local_values(|id| ranks.around(id, 10));
}

#[divan::bench(args = PLAYERS)]
fn a_finished_game(bencher: Bencher<'_, '_>, players: usize) {
    let (mut ranks, ids, mut random) = leaderboard(players);
    bencher
        .with_inputs(|| (ids[random.random_range(0..ids.len())], standing(&mut random)))
        .bench_local_values(|(id, standing)| ranks.set(id, standing));
}

#[divan::bench(args = PLAYERS, sample_count = 3)]
fn sort_all(bencher: Bencher<'_, '_>, players: usize) {
    bencher
        .with_inputs(|| unsorted(players).0)
        .bench_local_values(RanksBuilder::finish);
}
