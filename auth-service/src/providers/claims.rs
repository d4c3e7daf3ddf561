//! Header and claims of an ID token (OpenID Connect Core 1.0, section 2), and the checks of them.

use access::token::{LEEWAY, Object};
use base::clock::Timestamp;
use serde_json::{Map, Value};

use super::{
    keys::MAX_KID_LEN,
    spec::{Algorithm, ProviderSpec},
};

/// Maximum length of a subject, in bytes (OpenID Connect Core 1.0, section 2).
const MAX_SUBJECT_LEN: usize = 255;
/// Parameters that a header may have. Every other one supplies a key of the sender's choice, or
/// changes how the token must be read. `x5t` names a certificate, and is not looked at.
const HEADER: [&str; 5] = ["alg", "kid", "typ", "x5t", "x5t#S256"];

/// Name of the check that failed. It never contains any part of the token.
pub(super) type Refusal = &'static str;

/// Header of an ID token.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) kid: String,
}

/// Claims of an ID token that passed every check.
#[derive(Debug)]
pub(crate) struct IdToken {
    /// Id of the user at the provider.
    pub(crate) subject: String,
    /// Address that the provider has verified, as it wrote it. `None` if the provider is not
    /// trusted with addresses.
    pub(crate) email: Option<String>,
    /// Time when the user last proved to the provider who they are, or else when it issued the
    /// token.
    pub(crate) auth_time: Timestamp,
}

impl Header {
    /// Reads a decoded header.
    pub(super) fn parse(json: &[u8], spec: &ProviderSpec) -> Result<Self, Refusal> {
        let Object(members) = Object::parse(json).ok_or("the header is an object without duplicates")?;
        if members.keys().any(|name| !HEADER.contains(&name.as_str())) {
            return Err("the header must have only alg, kid, typ and x5t");
        }
        let algorithm = text(&members, "alg").and_then(Algorithm::named);
        let algorithm = algorithm.filter(|algorithm| spec.algorithms.contains(algorithm));
        let is_jwt = |typ: &Value| typ.as_str().is_some_and(|typ| typ.eq_ignore_ascii_case("JWT"));
        if !members.get("typ").is_none_or(is_jwt) {
            return Err("typ");
        }
        let kid = text(&members, "kid").filter(|kid| (1..=MAX_KID_LEN).contains(&kid.len()));
        Ok(Self {
            algorithm: algorithm.ok_or("alg")?,
            kid: kid.ok_or("kid")?.to_owned(),
        })
    }
}

impl IdToken {
    /// Reads the decoded claims of a token whose signature was verified. `nonce` is the value that
    /// the provider was to repeat.
    pub(super) fn parse(json: &[u8], spec: &ProviderSpec, nonce: &str, now: Timestamp) -> Result<Self, Refusal> {
        let Object(claims) = Object::parse(json).ok_or("the claims are an object without duplicates")?;
        if text(&claims, "iss") != Some(spec.issuer.as_str()) {
            return Err("iss");
        }
        check_audience(&claims, spec)?;
        if text(&claims, "nonce") != Some(nonce) {
            return Err("nonce");
        }
        let subject = text(&claims, "sub")
            .filter(|subject| is_subject(subject))
            .ok_or("sub")?;
        let issue_time = time(&claims, "iat")?.ok_or("iat")?;
        let expire_time = time(&claims, "exp")?.ok_or("exp")?;
        let begin_time = time(&claims, "nbf")?.unwrap_or(issue_time);
        let auth_time = time(&claims, "auth_time")?.unwrap_or(issue_time);
        if now >= expire_time.plus(LEEWAY) {
            return Err("exp");
        }
        if issue_time.max(begin_time) > now.plus(LEEWAY) {
            return Err("nbf and iat");
        }
        let email = text(&claims, "email").filter(|_| spec.trusts_email && is_email_verified(&claims));
        Ok(Self {
            subject: subject.to_owned(),
            email: email.map(str::to_owned),
            auth_time: auth_time.min(now),
        })
    }
}

/// Checks that the token was issued for this deployment, and for nobody else.
fn check_audience(claims: &Map<String, Value>, spec: &ProviderSpec) -> Result<(), Refusal> {
    let is_ours = |value: &Value| {
        value
            .as_str()
            .is_some_and(|name| spec.audiences.iter().any(|ours| ours == name))
    };
    let count = match claims.get("aud") {
        Some(Value::Array(names)) if !names.is_empty() && names.iter().all(is_ours) => names.len(),
        Some(name @ Value::String(_)) if is_ours(name) => 1,
        _ => return Err("aud"),
    };
    match claims.get("azp") {
        Some(party) if !is_ours(party) => Err("azp"),
        None if count > 1 => Err("azp"),
        _ => Ok(()),
    }
}

/// Returns whether the provider says that it has verified the address. Apple writes the flag as a
/// text.
fn is_email_verified(claims: &Map<String, Value>) -> bool {
    match claims.get("email_verified") {
        Some(Value::Bool(is_verified)) => *is_verified,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}

fn is_subject(text: &str) -> bool {
    (1..=MAX_SUBJECT_LEN).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

/// Reads an optional time: whole seconds since 1970.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, Refusal> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let micros = value
        .as_u64()
        .and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1_000_000));
    micros.map(Timestamp::from_micros).map(Some).ok_or(name)
}
