mod follower;
mod rules;
mod view;

use std::sync::Arc;

use super::AccessView;
use crate::{
    authz::Permission,
    clock::{Clock, ClockHand, Timestamp},
    ids::{SessionId, UserId},
    testing::tokens::TokenMint,
    token::{Claims, KeySet, Principal, TokenError, Verifier},
};

const NOW: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

/// A view, a verifier with the same keys, and tokens for both.
struct Bench {
    keys: KeySet,
    view: AccessView,
    verifier: Verifier,
    mint: TokenMint,
    hand: ClockHand,
}

impl Bench {
    fn new() -> Self {
        let keys = KeySet::empty();
        let (clock, hand) = Clock::manual(NOW);
        Self {
            view: AccessView::following(keys.clone(), clock.clone()),
            verifier: Verifier::new("auth-service", "game-backend", keys.clone(), clock),
            keys,
            mint: TokenMint::fixed(1),
            hand,
        }
    }

    fn claims(&self) -> Claims {
        self.mint.claims_for(UserId::generate(), "ann", &["player"], NOW)
    }

    fn principal(&self, claims: &Claims) -> Arc<Principal> {
        let (clock, _hand) = Clock::manual(NOW);
        let verifier = self.mint.verifier(clock);
        verifier.verify(&self.mint.sign(claims)).expect("a good token")
    }

    /// What a request with this token meets.
    fn verify(&self, claims: &Claims) -> Result<(), TokenError> {
        let principal = self.verifier.verify(&self.mint.sign(claims))?;
        self.view.check(&principal)
    }

    fn may(&self, claims: &Claims, permission: &str) -> bool {
        self.view.allow(&self.principal(claims), &named(permission))
    }
}

fn named(permission: &str) -> Permission {
    let (resource, action) = permission.split_once(':').expect("resource:action");
    Permission {
        resource: resource.to_owned(),
        action: action.to_owned(),
    }
}

fn sid(claims: &Claims) -> SessionId {
    claims.sid.expect("a person's token")
}
