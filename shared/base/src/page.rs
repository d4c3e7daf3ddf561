//! Keyset pagination (AIP-158). A page token names the last item of its page, so that the next page
//! is correct even if items were added or removed in the meantime.
//!
//! A token is not secret and grants nothing: each request is authorized and filtered as usual, and
//! the token only says where to continue. It carries a digest of itself and of its query. A token
//! that was truncated, altered or taken from another query is therefore rejected instead of being
//! misread.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    clock::Timestamp,
    ids::{Id, Kind},
    validate::Fields,
};

/// Page size if the request gives none.
pub const DEFAULT_PAGE_SIZE: i64 = 50;
/// Maximum page size. Larger requested sizes are reduced to it.
pub const MAX_PAGE_SIZE: i64 = 100;

/// 9999-12-31T23:59:59.999999Z, the last moment that a `google.protobuf.Timestamp` can hold. No
/// item is later, and PostgreSQL cannot represent every `i64` of microseconds.
const LATEST_MICROS: i64 = 253_402_300_799_999_999;

const POSITION_LEN: usize = 8 + 16;
const CHECK_LEN: usize = 8;
/// Length of a token in characters: base64 without padding.
const TOKEN_LEN: usize = (4 * (POSITION_LEN + CHECK_LEN)).div_ceil(3);

/// End of a page: the time by which the list is ordered, and the id that breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<K: Kind> {
    /// Time of the last item on the page.
    pub time: Timestamp,
    /// Id of the last item on the page.
    pub id: Id<K>,
}

/// The page of a list that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest<K: Kind> {
    /// Maximum number of items, 1 to [`MAX_PAGE_SIZE`].
    pub size: i64,
    /// End of the previous page; `None` for the first page.
    pub after: Option<Position<K>>,
}

impl<K: Kind> PageRequest<K> {
    /// Checks the fields `page_size` and `page_token`, and notes bad ones in `fields`. `query` must
    /// contain everything else that the list depends on: the RPC, the owner of the list and the
    /// filters.
    pub fn parse(fields: &mut Fields, page_size: i32, page_token: &str, query: &str) -> Option<Self> {
        let size = match i64::from(page_size) {
            0 => Some(DEFAULT_PAGE_SIZE),
            size @ 1.. => Some(size.min(MAX_PAGE_SIZE)),
            _ => {
                fields.reject("page_size", "must not be negative");
                None
            }
        };
        let after = if page_token.is_empty() {
            Some(None)
        } else {
            let position = decode(page_token, query);
            if position.is_none() {
                fields.reject(
                    "page_token",
                    "must be the next_page_token of an earlier page of the same list",
                );
            }
            position.map(Some)
        };
        Some(Self {
            size: size?,
            after: after?,
        })
    }

    /// Returns how many rows to read: one more than the page holds, to find out whether there is a
    /// next page.
    pub fn limit(&self) -> i64 {
        self.size + 1
    }

    /// Truncates the items that were read with [`limit`](Self::limit) to the size of the page.
    /// Returns the `next_page_token`, which is empty on the last page.
    pub fn cut<T>(&self, items: &mut Vec<T>, query: &str, position: impl FnOnce(&T) -> Position<K>) -> String {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if items.len() <= size {
            return String::new();
        }
        items.truncate(size);
        items
            .last()
            .map(|last| encode(&position(last), query))
            .unwrap_or_default()
    }
}

fn encode<K: Kind>(position: &Position<K>, query: &str) -> String {
    let mut bytes = Vec::with_capacity(POSITION_LEN + CHECK_LEN);
    bytes.extend_from_slice(&position.time.as_micros().to_be_bytes());
    bytes.extend_from_slice(position.id.as_uuid().as_bytes());
    bytes.extend_from_slice(&check(&bytes, query));
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode<K: Kind>(token: &str, query: &str) -> Option<Position<K>> {
    if token.len() != TOKEN_LEN {
        return None;
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let (position, found) = bytes.split_at_checked(POSITION_LEN)?;
    if found != check(position, query) {
        return None;
    }
    let (micros, id) = position.split_at_checked(8)?;
    let micros = i64::from_be_bytes(micros.try_into().ok()?);
    if !(0..=LATEST_MICROS).contains(&micros) {
        return None;
    }
    Some(Position {
        time: Timestamp::from_micros(micros),
        id: Id::from_uuid(uuid::Uuid::from_slice(id).ok()?),
    })
}

fn check(position: &[u8], query: &str) -> [u8; CHECK_LEN] {
    let digest = digest(&SHA256, &[position, query.as_bytes()].concat());
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&digest.as_ref()[..CHECK_LEN]);
    check
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{UserId, UserKind};

    fn parse(size: i32, token: &str, query: &str) -> Option<PageRequest<UserKind>> {
        PageRequest::parse(&mut Fields::new(), size, token, query)
    }

    #[test]
    fn page_sizes_are_bounded() {
        for (asked, given) in [(0, 50), (1, 1), (100, 100), (101, 100), (i32::MAX, 100)] {
            assert_eq!(parse(asked, "", "q").expect("good").size, given);
        }
        assert!(parse(-1, "", "q").is_none());
    }

    #[test]
    fn a_page_token_is_valid_only_for_its_own_query() {
        let position = Position {
            time: Timestamp::from_micros(1_700_000_000_000_001),
            id: UserId::generate(),
        };
        let token = encode(&position, "ListOpenGames");
        assert_eq!(parse(1, &token, "ListOpenGames").expect("good").after, Some(position));
        assert!(parse(1, &token, "ListFinishedGames").is_none());
        for index in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("ASCII");
            assert!(parse(1, &forged, "ListOpenGames").is_none(), "{forged}");
        }
        for forged in ["x", "=", &token[1..], &format!("{token}AAAA")] {
            assert!(parse(1, forged, "ListOpenGames").is_none(), "{forged}");
        }
    }

    #[test]
    fn times_that_a_database_cannot_store_are_refused() {
        for (micros, good) in [
            (i64::MIN, false),
            (-1, false),
            (0, true),
            (LATEST_MICROS, true),
            (LATEST_MICROS + 1, false),
            (i64::MAX, false),
        ] {
            let position = Position {
                time: Timestamp::from_micros(micros),
                id: UserId::generate(),
            };
            // A client can compute the digest for any position.
            let token = encode(&position, "q");
            assert_eq!(parse(1, &token, "q").is_some(), good, "{micros}");
        }
    }

    #[test]
    fn the_last_page_has_no_token() {
        let page = parse(2, "", "q").expect("good");
        let position = |id: &UserId| Position {
            time: Timestamp::from_micros(0),
            id: *id,
        };
        let ids = || std::iter::repeat_with(UserId::generate);
        let mut two: Vec<_> = ids().take(2).collect();
        assert_eq!(page.cut(&mut two, "q", position), "");
        let mut three: Vec<_> = ids().take(3).collect();
        assert_ne!(page.cut(&mut three, "q", position), "");
        assert_eq!(three.len(), 2);
    }
}
