//! Refresh tokens: `v1.<session id>.<counter>.<HMAC>`.
//!
//! Opaque to everybody else. The MAC is keyed by a secret outside the database and checked before any look-up, so that a
//! stolen database gives no token and a forged token costs no query. The same session and counter always give the
//! same token, which is how a lost answer can be given again.

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::SecretString;
use shared::ids::SessionId;

use super::{
    error::Error,
    secret::{Purpose, ServerSecrets},
};

const VERSION: &str = "v1";
/// Longer than any token that we make.
const MAX_LEN: usize = 128;

/// Makes and reads refresh tokens.
#[derive(Clone, Debug)]
pub(crate) struct RefreshTokens {
    /// The current key first; never empty.
    keys: Vec<Key>,
}

/// What a genuine refresh token says. Whether it is still good is for its session to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefreshClaim {
    pub(crate) session_id: SessionId,
    pub(crate) counter: i64,
}

impl RefreshTokens {
    pub(crate) fn new(secrets: &ServerSecrets) -> Self {
        let keys = secrets.derive(Purpose::RefreshTokens);
        Self {
            keys: keys.iter().map(|key| Key::new(HMAC_SHA256, key)).collect(),
        }
    }

    /// The token of this session and counter.
    pub(crate) fn make(&self, claim: RefreshClaim) -> SecretString {
        let body = format!("{VERSION}.{}.{}", claim.session_id, claim.counter);
        let mac = hmac::sign(&self.keys[0], body.as_bytes());
        SecretString::from(format!("{body}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac)))
    }

    /// What the token says, if we made it.
    pub(crate) fn read(&self, token: &str) -> Result<RefreshClaim, Error> {
        self.parse(token).ok_or(Error::RefreshTokenInvalid)
    }

    fn parse(&self, token: &str) -> Option<RefreshClaim> {
        if token.len() > MAX_LEN {
            return None;
        }
        let (body, mac) = token.rsplit_once('.')?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?;
        if !self
            .keys
            .iter()
            .any(|key| hmac::verify(key, body.as_bytes(), &mac).is_ok())
        {
            return None;
        }
        let mut parts = body.split('.');
        let (VERSION, session_id, counter, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        Some(RefreshClaim {
            session_id: session_id.parse().ok()?,
            counter: counter.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn secrets(text: &str) -> ServerSecrets {
        text.parse().expect("a secret")
    }

    #[test]
    fn a_token_says_what_was_put_in() {
        let tokens = RefreshTokens::new(&secrets(ServerSecrets::generate().expose_secret()));
        let claim = RefreshClaim {
            session_id: SessionId::generate(),
            counter: i64::MAX,
        };
        let token = tokens.make(claim);
        assert!(token.expose_secret().len() <= MAX_LEN);
        assert_eq!(tokens.read(token.expose_secret()).expect("genuine"), claim);
        assert_eq!(tokens.make(claim).expose_secret(), token.expose_secret());
    }

    #[test]
    fn every_altered_token_is_refused() {
        let tokens = RefreshTokens::new(&secrets(ServerSecrets::generate().expose_secret()));
        let token = tokens.make(RefreshClaim {
            session_id: SessionId::generate(),
            counter: 7,
        });
        let token = token.expose_secret();
        for index in 0..token.len() {
            let mut altered = token.to_owned().into_bytes();
            altered[index] = if altered[index] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).expect("ASCII");
            assert!(
                matches!(tokens.read(&altered), Err(Error::RefreshTokenInvalid)),
                "{altered}"
            );
        }
        for altered in [
            "",
            ".",
            "v1...",
            &token[1..],
            &token[..token.len() - 1],
            &format!("{token}A"),
            &format!(" {token}"),
            &"v1.".repeat(1000),
        ] {
            assert!(tokens.read(altered).is_err(), "{altered}");
        }
    }

    #[test]
    fn the_secret_before_still_reads_and_no_longer_makes() {
        let (new, old) = (ServerSecrets::generate(), ServerSecrets::generate());
        let before = RefreshTokens::new(&secrets(old.expose_secret()));
        let after = RefreshTokens::new(&secrets(&format!("{}{}", new.expose_secret(), old.expose_secret())));
        let claim = RefreshClaim {
            session_id: SessionId::generate(),
            counter: 1,
        };
        assert_eq!(after.read(before.make(claim).expose_secret()).expect("genuine"), claim);
        assert!(before.read(after.make(claim).expose_secret()).is_err());
    }
}
