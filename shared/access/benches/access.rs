//! Benchmarks of token verification, policy look-up and permission checks.

use access::{
    policy::{Grants, Policies},
    testing::tokens::TokenMint,
};
use base::{clock::Clock, ids::UserId};
use divan::{Bencher, black_box};
use proto::{auth, game};

fn main() {
    divan::main();
}

const GET_ME: &str = "/auth.v1.AccountService/GetMe";

fn token(mint: &TokenMint, clock: &Clock) -> String {
    mint.sign(&mint.claims_for(UserId::generate(), "somebody", &["player"], clock.now()))
}

/// Verifies a new token each time, so that none is a cache hit.
#[divan::bench]
fn verification_cold(bencher: Bencher<'_, '_>) {
    let (mint, clock) = (TokenMint::random(), Clock::system());
    let verifier = mint.verifier(clock.clone());
    bencher
        .with_inputs(|| token(&mint, &clock))
        .bench_local_values(|token| verifier.verify(&token).is_ok());
}

#[divan::bench]
fn verification_cached(bencher: Bencher<'_, '_>) {
    let (mint, clock) = (TokenMint::random(), Clock::system());
    let (verifier, token) = (mint.verifier(clock.clone()), token(&mint, &clock));
    bencher.bench_local(|| verifier.verify(black_box(&token)).is_ok());
}

/// Looks up the policy of an RPC by the path of the call.
#[divan::bench]
fn policy_look_up(bencher: Bencher<'_, '_>) {
    let policies = Policies::from_descriptor_set(auth::v1::FILE_DESCRIPTOR_SET).expect("policies");
    bencher.bench_local(|| policies.get(black_box(GET_ME)).is_some());
}

#[divan::bench(args = ["player", "superuser", "nothing"])]
fn permission_check(bencher: Bencher<'_, '_>, role: &str) {
    let (mint, clock) = (TokenMint::random(), Clock::system());
    let policies = Policies::from_descriptor_set(game::v1::FILE_DESCRIPTOR_SET).expect("policies");
    let grants = Grants::from_policies(&policies);
    let permission = *policies.permissions().get("games:create").expect("declared");
    let signed = mint.sign(&mint.claims_for(UserId::generate(), "somebody", &[role], clock.now()));
    let principal = mint.verifier(clock).verify(&signed).expect("good");
    bencher.bench_local(|| grants.allow(black_box(&principal), permission));
}
