mod feed;
mod losses;
mod rules;
mod streams;
mod view;

use std::sync::Arc;

use base::{
    clock::{Clock, ClockHand, Timestamp},
    ids::{SessionId, UserId},
};

use crate::{
    policy::Permission,
    testing::tokens::TokenMint,
    token::{Claims, KeySet, Principal, TokenError, Verifier},
    view::AccessView,
};

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

/// Test bench: a view, a verifier with the same keys, and a mint of tokens for both.
pub(crate) struct Bench {
    pub(crate) keys: KeySet,
    pub(crate) view: AccessView,
    pub(crate) verifier: Verifier,
    pub(crate) mint: TokenMint,
    pub(crate) hand: ClockHand,
}

impl Bench {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn claims(&self) -> Claims {
        self.mint.claims_for(UserId::generate(), "ann", &["player"], NOW)
    }

    pub(crate) fn principal(&self, claims: &Claims) -> Arc<Principal> {
        let (clock, _hand) = Clock::manual(NOW);
        let verifier = self.mint.verifier(clock);
        verifier.verify(&self.mint.sign(claims)).expect("a good token")
    }

    /// Returns the result of authenticating a request with this token.
    pub(crate) fn verify(&self, claims: &Claims) -> Result<(), TokenError> {
        let principal = self.verifier.verify(&self.mint.sign(claims))?;
        self.view.check(&principal)
    }

    pub(crate) fn may(&self, claims: &Claims, permission: &str) -> bool {
        self.view.allow(&self.principal(claims), &named(permission))
    }
}

pub(crate) fn named(permission: &str) -> Permission {
    let (resource, action) = permission.split_once(':').expect("resource:action");
    Permission {
        resource: resource.to_owned(),
        action: action.to_owned(),
    }
}

pub(crate) fn sid(claims: &Claims) -> SessionId {
    claims.sid.expect("a person's token")
}
