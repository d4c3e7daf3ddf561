//! Verification of tokens: the cheapest checks come first, no claim is trusted before the signature
//! is checked, and nothing is fetched.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use base::clock::{Clock, Timestamp};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use serde_json::Value;

use super::{
    AcceptedAudiences, Claims, FIRST_PARTY_CLIENT_ID, Jwk, KeySet, LEEWAY, MAX_TOKEN_LEN, Principal, TokenError,
    audience::Reach,
    compact::{self, Segments},
    header,
    json::Object,
};

/// Capacity of the cache, in tokens. Each caller has about one at a time. An evicted token only has
/// to be verified again.
const CACHE_CAPACITY: usize = 10_000;

/// Verifier of access tokens. Clones share the cache.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    issuer: String,
    audiences: AcceptedAudiences,
    keys: KeySet,
    clock: Clock,
    /// Verified tokens, keyed by the hash of the whole token, so that no usable token stays in
    /// memory.
    cache: Cache<[u8; 32], Arc<Checked>>,
    /// Number of clock jumps, and monotonic time, when a token from the future was last noted.
    last_early: Mutex<Option<(u64, Duration)>>,
}

/// Token that passed every check, except those whose result depends on the time or on key changes.
struct Checked {
    principal: Arc<Principal>,
    key: Arc<Jwk>,
    not_before: Timestamp,
    issued_at: Timestamp,
}

/// Shortest time between warnings of tokens from the future, unless the clock jumps.
const EARLY_WARNING_INTERVAL: Duration = Duration::from_hours(1);

/// Name of the check that failed. It never contains any part of the token.
type Refusal = &'static str;

/// The check of the audience, which comes after those of the signature and the issuer.
const AUDIENCE: Refusal = "aud";

impl Verifier {
    /// Creates a verifier for tokens with this issuer and these audiences. It always uses the
    /// current keys of the set.
    pub fn new(issuer: impl Into<String>, audiences: impl Into<AcceptedAudiences>, keys: KeySet, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            issuer: issuer.into(),
            audiences: audiences.into(),
            keys,
            clock,
            cache: Cache::new(CACHE_CAPACITY),
            last_early: Mutex::new(None),
        }))
    }

    /// Verifies the token and returns its principal. A token is accepted from [`LEEWAY`] before it
    /// becomes valid until [`LEEWAY`] after it expires.
    pub fn verify(&self, token: &str) -> Result<Arc<Principal>, TokenError> {
        let checked = self.0.checked(token).map_err(|check| {
            tracing::debug!(check, "access token refused");
            if check == AUDIENCE {
                TokenError::OtherAudience
            } else {
                TokenError::Invalid
            }
        })?;
        let verdict = checked.at(self.0.clock.now(), self.0.clock.monotonic());
        if let Err(TokenError::NotYetValid(early)) = verdict {
            self.0.note_early(early);
        }
        verdict
    }

    /// Returns the audience of tokens for this service only, if it has a name of its own.
    pub(crate) fn own_audience(&self) -> Option<&str> {
        self.0.audiences.own()
    }

    /// Returns how long the principal's token will still be accepted. Returns `None` once its time
    /// is over by the wall clock, or once the life that it had left when it was first accepted has
    /// passed by the monotonic clock.
    pub fn time_left(&self, principal: &Principal) -> Option<Duration> {
        let mut left = principal.expires_at().plus(LEEWAY).since(self.0.clock.now());
        if let Some(monotonic_expiry) = principal.monotonic_expiry() {
            left = left.min(monotonic_expiry.saturating_sub(self.0.clock.monotonic()));
        }
        (!left.is_zero()).then_some(left)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("issuer", &self.0.issuer)
            .field("audiences", &self.0.audiences)
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

    /// Warns that valid tokens come from the future. Stays silent after a jump of this machine's
    /// clock, because the clock has already logged a warning of its own.
    fn note_early(&self, early: Duration) {
        let (steps, now) = (self.clock.steps(), self.clock.monotonic());
        let mut last = self.last_early.lock();
        let is_new = match *last {
            None => steps == 0,
            Some((known, at)) => steps == known && now.saturating_sub(at) >= EARLY_WARNING_INTERVAL,
        };
        if is_new {
            tracing::warn!(
                behind_seconds = (early + LEEWAY).as_secs(),
                "access tokens are refused as TOKEN_NOT_YET_VALID because this machine's clock is behind that of \
                 auth-service; find out which of them is wrong"
            );
        }
        if is_new || last.is_none_or(|(known, _)| known != steps) {
            *last = Some((steps, now));
        }
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
        let reach = self.audiences.reach(&claims.aud).ok_or(AUDIENCE)?;
        let wanted = match reach {
            Reach::ThisServiceAlone => None,
            Reach::Others => Some(self.audiences.own().unwrap_or_default()),
        };
        if claims.jti.is_empty() {
            return Err("jti");
        }
        if claims.client_id.is_empty() {
            return Err("client_id");
        }
        if claims.client_id == FIRST_PARTY_CLIENT_ID && claims.sid.is_none() {
            return Err("sid");
        }
        let not_before = timestamp(claims.nbf).ok_or("nbf")?;
        let issued_at = timestamp(claims.iat).ok_or("iat")?;
        let expires_at = timestamp(claims.exp).ok_or("exp")?;
        let auth_time = match claims.auth_time {
            Some(time) => Some(timestamp(time).ok_or("auth_time")?),
            None => None,
        };
        Ok(Checked {
            principal: Arc::new(Principal::new(
                claims,
                wanted,
                key.kid(),
                (issued_at, expires_at),
                auth_time,
            )),
            key,
            not_before,
            issued_at,
        })
    }
}

impl Checked {
    fn at(&self, now: Timestamp, monotonic: Duration) -> Result<Arc<Principal>, TokenError> {
        let monotonic_expiry = self.principal.monotonic_expiry();
        let left = self.principal.expires_at().plus(LEEWAY).since(now);
        if left.is_zero() || monotonic_expiry.is_some_and(|monotonic_expiry| monotonic >= monotonic_expiry) {
            tracing::debug!(check = "exp", "access token refused");
            return Err(TokenError::Expired);
        }
        let begins = self.not_before.max(self.issued_at).minus(LEEWAY);
        if begins > now {
            tracing::debug!(check = "nbf and iat", "access token refused");
            return Err(TokenError::NotYetValid(begins.since(now)));
        }
        if monotonic_expiry.is_none() {
            self.principal.note_acceptance(now, monotonic, left);
        }
        Ok(Arc::clone(&self.principal))
    }
}

/// Converts seconds since 1970, or returns `None` if the time is outside the range of a
/// [`Timestamp`].
fn timestamp(seconds: u64) -> Option<Timestamp> {
    let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?;
    Some(Timestamp::from_micros(micros))
}

fn sha256(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}
