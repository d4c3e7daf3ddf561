//! Tokens that only this deployment can have made: a body, and its HMAC under a key that is outside
//! the database.

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::SecretString;

use crate::domain::keys::secret::{Purpose, ServerSecrets};

/// Longer than any token that we make.
pub(in crate::domain) const MAX_LEN: usize = 128;

/// The keys of one kind of token: the current one first; never empty.
#[derive(Clone, Debug)]
pub(in crate::domain) struct MacKeys(Vec<Key>);

impl MacKeys {
    pub(in crate::domain) fn new(secrets: &ServerSecrets, purpose: Purpose) -> Self {
        let keys = secrets.derive(purpose);
        Self(keys.iter().map(|key| Key::new(HMAC_SHA256, key)).collect())
    }

    /// `<body>.<HMAC>`.
    pub(in crate::domain) fn seal(&self, body: &str) -> SecretString {
        let mac = hmac::sign(&self.0[0], body.as_bytes());
        SecretString::from(format!("{body}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac)))
    }

    /// The body, if we sealed it. It is looked at only after that.
    pub(in crate::domain) fn open<'a>(&self, token: &'a str) -> Option<&'a str> {
        if token.len() > MAX_LEN {
            return None;
        }
        let (body, mac) = token.rsplit_once('.')?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?;
        let is_ours = |key: &Key| hmac::verify(key, body.as_bytes(), &mac).is_ok();
        self.0.iter().any(is_ours).then_some(body)
    }
}
