//! Tokens that only this deployment can make: a body and its HMAC. The key is derived from the
//! server secret, which is not in the database.

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::SecretString;

use crate::domain::keys::secret::{Purpose, ServerSecrets};

/// Maximum length of a token, in bytes. Every token that we make is shorter.
pub(crate) const MAX_LEN: usize = 128;

/// Keys for one kind of token, the current one first. There is at least one.
#[derive(Clone, Debug)]
pub(in crate::domain) struct MacKeys(Vec<Key>);

impl MacKeys {
    pub(in crate::domain) fn new(secrets: &ServerSecrets, purpose: Purpose) -> Self {
        let keys = secrets.derive(purpose);
        Self(keys.iter().map(|key| Key::new(HMAC_SHA256, key)).collect())
    }

    /// Returns the token for this body: `<body>.<HMAC>`.
    pub(in crate::domain) fn seal(&self, body: &str) -> SecretString {
        let mac = hmac::sign(&self.0[0], body.as_bytes());
        SecretString::from(format!("{body}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac)))
    }

    /// Returns the body if we sealed the token. The body is not parsed before that is verified.
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
