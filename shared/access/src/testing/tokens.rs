//! Access tokens for tests, both valid and faulty. This is the only place in the crate that signs.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base::{
    clock::{Clock, Timestamp},
    ids::{SessionId, UserId},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};

use crate::token::{
    ALGORITHM, AcceptedAudiences, Claims, DEFAULT_AUDIENCE, DEFAULT_ISSUER, FIRST_PARTY_CLIENT_ID, Jwk, Jwks, KeySet,
    TOKEN_TYPE, Verifier,
};

/// Life of a minted token.
pub const LIFE: Duration = Duration::from_mins(30);

/// Mint that signs access tokens as auth-service would, with a key of its own.
#[derive(Debug)]
pub struct TokenMint {
    key_pair: Ed25519KeyPair,
    jwk: Jwk,
}

impl TokenMint {
    /// Creates a mint with a new random key.
    pub fn random() -> Self {
        Self::with_key(Ed25519KeyPair::generate().expect("the system has random bytes"))
    }

    /// Creates a mint whose key is derived from this byte, and is the same each time.
    pub fn fixed(seed: u8) -> Self {
        Self::with_key(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("any 32 bytes are a seed"))
    }

    fn with_key(key_pair: Ed25519KeyPair) -> Self {
        let public_key = key_pair
            .public_key()
            .as_ref()
            .try_into()
            .expect("a public key has 32 bytes");
        let jwk = Jwk::from_public_key(public_key).expect("a key pair's public key is sound");
        Self { key_pair, jwk }
    }

    /// Returns the public key.
    pub fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// Returns the public key as a published set.
    pub fn jwks(&self) -> Jwks {
        self.jwk.clone().into()
    }

    /// Returns the public key as a PEM file (RFC 8410).
    pub fn public_pem(&self) -> String {
        let algorithm = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let der = BASE64_STANDARD.encode([&algorithm[..], self.jwk.public_key()].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    /// Returns the public key as the key set of a verifier.
    pub fn key_set(&self) -> KeySet {
        self.jwks().into()
    }

    /// Creates a verifier that accepts this mint's tokens for every RPC.
    pub fn verifier(&self, clock: Clock) -> Verifier {
        let audiences = AcceptedAudiences::deployment(DEFAULT_AUDIENCE).admitting_deployment_as_own(true);
        Verifier::new(DEFAULT_ISSUER, audiences, self.key_set(), clock)
    }

    /// Returns the claims of a person who has just logged in, with a new session.
    pub fn claims_for(&self, user_id: UserId, login: &str, roles: &[&str], now: Timestamp) -> Claims {
        let issued = now.as_seconds().unsigned_abs();
        Claims {
            iss: DEFAULT_ISSUER.to_owned(),
            aud: DEFAULT_AUDIENCE.into(),
            sub: user_id,
            exp: issued + LIFE.as_secs(),
            iat: issued,
            nbf: issued,
            jti: SessionId::generate().to_string(),
            client_id: FIRST_PARTY_CLIENT_ID.to_owned(),
            sid: Some(SessionId::generate()),
            ver: 0,
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            preferred_username: login.to_owned(),
            permissions: Vec::new(),
            auth_time: Some(issued),
            amr: vec!["pwd".to_owned()],
            acr: Some("1".to_owned()),
        }
    }

    /// Signs a token with these claims.
    pub fn sign(&self, claims: &Claims) -> String {
        let claims = serde_json::to_string(claims).expect("claims are JSON");
        self.sign_raw(&self.header(), &claims)
    }

    /// Returns the header of this mint's tokens.
    pub fn header(&self) -> String {
        let kid = self.jwk.kid();
        format!(r#"{{"alg":"{ALGORITHM}","typ":"{TOKEN_TYPE}","kid":"{kid}"}}"#)
    }

    /// Signs a token of this header and these claims, which may be any text, with a valid
    /// signature.
    pub fn sign_raw(&self, header_json: &str, claims_json: &str) -> String {
        self.sign_segments(
            &BASE64_URL_SAFE_NO_PAD.encode(header_json),
            &BASE64_URL_SAFE_NO_PAD.encode(claims_json),
        )
    }

    /// Signs a token of these two segments, encoded in any way, with a valid signature.
    pub fn sign_segments(&self, header: &str, claims: &str) -> String {
        let signed = format!("{header}.{claims}");
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.key_pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}
