//! Cost of verifying an access token, without a server around it.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base::{clock::Clock, ids::UserId};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use testing::tokens::TokenMint;

use super::Setup;
use crate::report::{Goal, Report, Row, Spread, Unit};

/// Number of tokens per round. Each is first verified when it cannot be in the cache yet.
const TOKENS: usize = 2000;

pub(crate) fn run(setup: &Setup<'_>, report: &mut Report) {
    let mint = TokenMint::random();
    let (mut cold, mut cached, mut cached_times) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setup.rounds.max(5) {
        let now = Clock::system().now();
        let tokens: Vec<String> = (0..TOKENS)
            .map(|_| mint.sign(&mint.claims_for(UserId::generate(), "somebody", &["player"], now)))
            .collect();
        let parsed: Vec<(&str, Vec<u8>)> = tokens
            .iter()
            .map(|token| {
                let (signed, signature) = token.rsplit_once('.').expect("three parts");
                (signed, BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64"))
            })
            .collect();
        let key = UnparsedPublicKey::new(&ED25519, mint.jwk().public_key());
        let verifier = mint.verifier(Clock::system());
        let verify = |token: &String| drop(black_box(verifier.verify(black_box(token)).expect("good")));
        let first = each(&tokens, verify);
        let raw = each(&parsed, |(signed, signature)| {
            key.verify(signed.as_bytes(), signature).expect("good");
        });
        let again = each(&tokens, verify);
        let map: std::collections::HashMap<&String, usize> = tokens.iter().zip(0..).collect();
        let hit = each(&tokens, |token| {
            black_box(map.get(black_box(token)));
        });
        cold.push(first.as_secs_f64() / raw.as_secs_f64());
        cached.push(again.as_secs_f64() * 1e6);
        cached_times.push(again.as_secs_f64() / hit.as_secs_f64());
    }
    let what = "time to verify a token that was not seen before, against Ed25519 of aws-lc alone";
    report.add(Row::new(
        "token verification, cold",
        None,
        what,
        (Spread::of(cold), Unit::Times),
        Goal::AtMost(1.5),
    ));
    let what = format!(
        "time to verify a token that was seen before; {:.0} times that of a hit in a hash map of the same tokens",
        Spread::of(cached_times).median
    );
    let figure = (Spread::of(cached), Unit::Micros);
    report.add(Row::new(
        "token verification, cached",
        None,
        what,
        figure,
        Goal::AtMost(1.0),
    ));
}

fn each<T>(of: &[T], run: impl Fn(&T)) -> Duration {
    let start = Instant::now();
    of.iter().for_each(run);
    start.elapsed() / u32::try_from(of.len()).unwrap_or(1)
}
