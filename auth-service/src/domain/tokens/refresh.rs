//! Refresh tokens: `v1.<session id>.<counter>.<HMAC>`.
//!
//! They are opaque to everybody else. The MAC is keyed by a secret outside the database and checked
//! before any look-up, so that a stolen database yields no token and a forged token costs no query.
//! The same session and counter always give the same token, so that a lost response can be given
//! again.

use base::ids::SessionId;
use secrecy::SecretString;

use crate::domain::{
    error::Error,
    keys::{
        mac_keys::MacKeys,
        secret::{Purpose, ServerSecrets},
    },
};

const VERSION: &str = "v1";

/// Makes and reads refresh tokens.
#[derive(Clone, Debug)]
pub(crate) struct RefreshTokens {
    keys: MacKeys,
}

/// Content of a genuine refresh token. Its session decides whether it is still valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefreshClaim {
    pub(crate) session_id: SessionId,
    pub(crate) counter: i64,
}

impl RefreshTokens {
    pub(crate) fn new(secrets: &ServerSecrets) -> Self {
        Self {
            keys: MacKeys::new(secrets, Purpose::RefreshTokens),
        }
    }

    /// Returns the token of this session and counter.
    pub(crate) fn make(&self, claim: RefreshClaim) -> SecretString {
        self.keys
            .seal(&format!("{VERSION}.{}.{}", claim.session_id, claim.counter))
    }

    /// Reads the token. Fails if we did not make it.
    pub(crate) fn read(&self, token: &str) -> Result<RefreshClaim, Error> {
        self.parse(token).ok_or(Error::RefreshTokenInvalid)
    }

    fn parse(&self, token: &str) -> Option<RefreshClaim> {
        let mut parts = self.keys.open(token)?.split('.');
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
    fn a_token_carries_the_claim_it_was_made_from() {
        let tokens = RefreshTokens::new(&secrets(ServerSecrets::generate().expose_secret()));
        let claim = RefreshClaim {
            session_id: SessionId::generate(),
            counter: i64::MAX,
        };
        let token = tokens.make(claim);
        assert!(token.expose_secret().len() <= crate::domain::keys::mac_keys::MAX_LEN);
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
    fn the_previous_secret_verifies_tokens_but_signs_none() {
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
