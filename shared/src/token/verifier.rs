//! Decides about tokens: cheapest checks first, nothing believed before the signature is checked, nothing fetched.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;
use serde_json::Value;

use super::{
    Claims, FIRST_PARTY_CLIENT_ID, Jwk, KeySet, LEEWAY, MAX_TOKEN_LEN, Principal, TokenError,
    compact::{self, Segments},
    header,
    json::Object,
};
use crate::clock::{Clock, Timestamp};

/// In tokens. Each caller has about one at a time; a token that falls out is only verified again.
const CACHE_CAPACITY: usize = 10_000;

/// Verifies access tokens. Clones share the cache.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    issuer: String,
    audience: String,
    keys: KeySet,
    clock: Clock,
    /// By the hash of the whole token, so that nothing in memory can be used as one.
    cache: Cache<[u8; 32], Arc<Checked>>,
}

/// A token that passed every check that time and key changes cannot undo.
struct Checked {
    principal: Arc<Principal>,
    key: Arc<Jwk>,
    not_before: Timestamp,
    issued_at: Timestamp,
    /// Once it was seen to be over, it stays so, also when the clock is set back: what was said about it, such as that its
    /// session has ended, may be forgotten by then.
    is_over: AtomicBool,
}

/// Names the check that failed, and never anything of the token.
type Refusal = &'static str;

impl Verifier {
    /// A verifier for tokens of this issuer and for this audience, by the keys that are in the set at the time.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, keys: KeySet, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            issuer: issuer.into(),
            audience: audience.into(),
            keys,
            clock,
            cache: Cache::new(CACHE_CAPACITY),
        }))
    }

    /// Says who bears this token. It may be over by less than [`LEEWAY`], and begin by as much later.
    pub fn verify(&self, token: &str) -> Result<Arc<Principal>, TokenError> {
        let checked = self.0.checked(token).map_err(|check| {
            tracing::debug!(check, "access token refused");
            TokenError::Invalid
        })?;
        checked.at(self.0.clock.now())
    }
}

impl Verifier {
    /// How long the principal's token is still good; `None` where its time is over.
    pub fn time_left(&self, principal: &Principal) -> Option<Duration> {
        let left = principal.expires_at().plus(LEEWAY).since(self.0.clock.now());
        (!left.is_zero()).then_some(left)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("issuer", &self.0.issuer)
            .field("audience", &self.0.audience)
            .field("keys", &self.0.keys)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn checked(&self, token: &str) -> Result<Arc<Checked>, Refusal> {
        if token.len() > MAX_TOKEN_LEN {
            return Err("length");
        }
        let segments = Segments::split(token).ok_or("three segments")?;
        let hash = sha256(token);
        if let Some(checked) = self.cache.get(&hash)
            && self.keys.holds(&checked.key)
        {
            return Ok(checked);
        }
        let checked = Arc::new(self.check(&segments)?);
        self.cache.insert(hash, Arc::clone(&checked));
        Ok(checked)
    }

    fn check(&self, segments: &Segments<'_>) -> Result<Checked, Refusal> {
        let header = compact::decode(segments.header).ok_or("base64url of the header")?;
        let claims = compact::decode(segments.claims).ok_or("base64url of the claims")?;
        let signature: [u8; 64] = compact::decode_array(segments.signature).ok_or("base64url of the signature")?;
        let kid = header::kid(&header)?;
        let key = self.keys.get(&kid).ok_or("known kid")?;
        if !key.verify(segments.signed.as_bytes(), &signature) {
            return Err("signature");
        }

        let Object(claims) = Object::parse(&claims).ok_or("the claims are an object without duplicates")?;
        let claims: Claims =
            serde_json::from_value(Value::Object(claims)).map_err(|_| "the claims' presence and types")?;
        if claims.iss != self.issuer {
            return Err("iss");
        }
        if claims.aud != self.audience {
            return Err("aud");
        }
        if claims.jti.is_empty() {
            return Err("jti");
        }
        if claims.client_id.is_empty() {
            return Err("client_id");
        }
        if claims.client_id == FIRST_PARTY_CLIENT_ID && claims.sid.is_none() {
            return Err("sid");
        }
        let not_before = moment(claims.nbf).ok_or("nbf")?;
        let issued_at = moment(claims.iat).ok_or("iat")?;
        let expires_at = moment(claims.exp).ok_or("exp")?;
        Ok(Checked {
            principal: Arc::new(Principal::new(claims, key.kid(), issued_at, expires_at)),
            key,
            not_before,
            issued_at,
            is_over: AtomicBool::new(false),
        })
    }
}

impl Checked {
    fn at(&self, now: Timestamp) -> Result<Arc<Principal>, TokenError> {
        if self.not_before > now.plus(LEEWAY) || self.issued_at > now.plus(LEEWAY) {
            tracing::debug!(check = "nbf and iat", "access token refused");
            return Err(TokenError::Invalid);
        }
        let is_over = self.principal.expires_at() <= now.minus(LEEWAY);
        if is_over || self.is_over.load(Ordering::Relaxed) {
            self.is_over.store(true, Ordering::Relaxed);
            tracing::debug!(check = "exp", "access token refused");
            return Err(TokenError::Expired);
        }
        Ok(Arc::clone(&self.principal))
    }
}

/// Nothing if it lies beyond what a [`Timestamp`] can hold.
fn moment(seconds: u64) -> Option<Timestamp> {
    let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?;
    Some(Timestamp::from_micros(micros))
}

fn sha256(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}
