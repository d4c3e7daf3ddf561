//! Fuzz targets for the parser of page tokens.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::{LATEST_MICROS, POSITION_LEN, Position, TOKEN_LEN, check, decode, encode};
use crate::{
    clock::Timestamp,
    ids::{Id, UserKind},
    testing::fuzz::Target,
};

const QUERY: &str = "ListOpenGames";

fn position(micros: i64, id: u128) -> Position<UserKind> {
    Position {
        time: Timestamp::from_micros(micros),
        id: Id::from_uuid(Uuid::from_u128(id)),
    }
}

#[test]
fn fuzz_page_tokens() {
    let good = [
        position(0, 0),
        position(1_700_000_000_000_001, 0x0190_b6e4_9f6d_7c3a_8d2e_5b1f_0c9a_7e42),
        position(LATEST_MICROS, u128::MAX),
    ]
    .map(|position| encode(&position, QUERY));
    Target {
        corpus: include_str!("fuzz/page_tokens.txt"),
        genuine: &good.each_ref().map(String::as_bytes),
        pieces: &["A", "_", "-", "=", "+", "/", ".", " ", "\0", "AAAAAAAAAAA", "\u{e9}"],
    }
    .texts(|text| match decode::<UserKind>(text, QUERY) {
        Some(position) => {
            assert_eq!(encode(&position, QUERY), text, "a position has one token");
            assert!(good.iter().any(|token| token == text), "only a genuine token is one");
            assert_eq!(
                decode::<UserKind>(text, "ListFinishedGames"),
                None,
                "valid for only one list"
            );
        }
        None => assert!(!good.iter().any(|token| token == text)),
    });
}

/// Covers positions of arbitrary bytes, because callers can compute the digest themselves.
#[test]
fn fuzz_positions() {
    let good = [0, 1, LATEST_MICROS].map(|micros| [&micros.to_be_bytes()[..], &[7; 16]].concat());
    let bad = [i64::MIN, -1, LATEST_MICROS + 1, i64::MAX].map(|micros| [&micros.to_be_bytes()[..], &[7; 16]].concat());
    let all: Vec<&[u8]> = good.iter().chain(&bad).map(Vec::as_slice).collect();
    Target {
        corpus: "",
        genuine: &all,
        pieces: &["\0", "\x7f"],
    }
    .bytes(|bytes| {
        let token = BASE64_URL_SAFE_NO_PAD.encode([bytes, &check(bytes, QUERY)].concat());
        let decoded = decode::<UserKind>(&token, QUERY);
        let micros = bytes.first_chunk().map(|micros| i64::from_be_bytes(*micros));
        let is_good = bytes.len() == POSITION_LEN && micros.is_some_and(|micros| (0..=LATEST_MICROS).contains(&micros));
        assert_eq!(decoded.is_some(), is_good);
        if let Some(position) = decoded {
            assert_eq!(Some(position.time.as_micros()), micros);
            assert_eq!(encode(&position, QUERY), token);
            assert_eq!(token.len(), TOKEN_LEN);
        }
    });
}
