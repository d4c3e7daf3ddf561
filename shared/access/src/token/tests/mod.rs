mod claims;
mod follow;
mod forgeries;
mod fuzz;
mod keys;
mod sources;
mod wycheproof;

use base::{
    clock::{Clock, ClockHand, Timestamp},
    ids::UserId,
};
use serde_json::Value;

use super::{Claims, Principal, TokenError, Verifier};
use crate::testing::tokens::TokenMint;

/// Current time of the tests, in seconds since 1970.
const NOW: u64 = 1_700_000_000;

/// Test bench: a mint, a verifier that knows its key, and the hand of the verifier's clock.
struct Bench {
    mint: TokenMint,
    verifier: Verifier,
    hand: ClockHand,
    claims: Claims,
}

impl Bench {
    fn new() -> Self {
        let mint = TokenMint::fixed(1);
        let (clock, hand) = Clock::manual(second(NOW));
        let verifier = mint.verifier(clock);
        let claims = mint.claims_for(UserId::generate(), "ada", &["player"], second(NOW));
        Self {
            mint,
            verifier,
            hand,
            claims,
        }
    }

    fn good_token(&self) -> String {
        self.mint.sign(&self.claims)
    }

    /// Signs another token that differs only in its `jti`.
    fn another_token(&self) -> String {
        self.mint.sign(&Claims {
            jti: "another".to_owned(),
            ..self.claims.clone()
        })
    }

    /// Returns the claims one by one, each with the JSON text of its value.
    fn members(&self) -> Vec<(String, String)> {
        let Ok(Value::Object(members)) = serde_json::to_value(&self.claims) else {
            panic!("claims are an object");
        };
        members
            .into_iter()
            .map(|(name, value)| (name, value.to_string()))
            .collect()
    }

    /// Returns the JSON of the claims with this text as the value of one claim.
    fn with(&self, claim: &str, value: &str) -> String {
        let mut members = self.members();
        members.retain(|(name, _)| name != claim);
        members.push((claim.to_owned(), value.to_owned()));
        object(&members)
    }

    fn without(&self, claim: &str) -> String {
        let mut members = self.members();
        members.retain(|(name, _)| name != claim);
        object(&members)
    }

    fn sign_claims(&self, claims_json: &str) -> String {
        self.mint.sign_raw(&self.mint.header(), claims_json)
    }

    fn sign_header(&self, header_json: &str) -> String {
        self.mint.sign_raw(header_json, &object(&self.members()))
    }

    /// Verifies the token twice, so that the second answer can come from the cache.
    fn verify(&self, token: &str) -> Result<Principal, TokenError> {
        let first = self.verifier.verify(token);
        let second = self.verifier.verify(token);
        assert_eq!(first, second, "the cache changes the answer");
        first.map(|principal| (*principal).clone())
    }

    #[track_caller]
    fn refuses(&self, token: &str, what: &str) {
        assert_eq!(self.verify(token), Err(TokenError::Invalid), "{what}");
    }

    fn refuses_audience(&self, token: &str, what: &str) {
        assert_eq!(self.verify(token), Err(TokenError::OtherAudience), "{what}");
    }
}

fn object(members: &[(String, String)]) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(name, value)| format!("{name:?}:{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn second(seconds: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(seconds * 1_000_000).unwrap())
}
