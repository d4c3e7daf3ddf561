//! The server secret, which is not in the database. Without it, nothing in the database can be used
//! as a token or a key. One key is derived from it for each purpose (HKDF-SHA-256, RFC 5869).

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

/// Minimum length of a secret, in bytes.
const MIN_LEN: usize = 32;

/// The current secret, and the previous one while values made with it are in use.
#[derive(Clone)]
pub struct ServerSecrets {
    current: SecretSlice<u8>,
    previous: Option<SecretSlice<u8>>,
}

/// The error for a text that is not a server secret. It does not quote the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a server secret is one line of base64 of at least 32 random bytes, and optionally a second line with the secret \
    before it"
)]
pub struct SecretError;

/// Purpose of a derived key. A key for one purpose reveals nothing about the others.
#[derive(Clone, Copy, Debug)]
pub(in crate::domain) enum Purpose {
    /// The MAC of refresh tokens.
    RefreshTokens,
    /// The MAC of device tokens.
    DeviceTokens,
    /// The encryption of signing keys at rest.
    SigningKeys,
    /// The keys under which attempts are counted.
    Attempts,
    /// The codes that are mailed to users.
    AccountCodes,
    /// The encryption of requests for mails.
    MailRequests,
    /// The keys under which mails are counted.
    MailQuota,
    /// The HMAC of the credentials of guests.
    GuestCredentials,
    /// The encryption of the secrets of authenticator apps.
    TotpSecrets,
    /// The HMAC of recovery codes.
    RecoveryCodes,
    /// The MAC of the tokens of logins that wait for a second factor.
    LoginChallenges,
}

impl ServerSecrets {
    /// Returns a new random secret, as the text of a secret file.
    pub fn generate() -> SecretString {
        let mut bytes = [0; MIN_LEN];
        rand::fill(&mut bytes).expect("the operating system gives random bytes");
        SecretString::from(format!("{}\n", BASE64_STANDARD.encode(bytes)))
    }

    /// Returns the keys for a purpose, the current one first. All are accepted, but only the
    /// current one is used to make something new.
    pub(in crate::domain) fn derive(&self, purpose: Purpose) -> Vec<[u8; 32]> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(|secret| derive(secret.expose_secret(), purpose))
            .collect()
    }
}

impl FromStr for ServerSecrets {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
            let bytes = BASE64_STANDARD.decode(line).map_err(|_| SecretError)?;
            if bytes.len() < MIN_LEN {
                Err(SecretError)
            } else {
                Ok(SecretSlice::from(bytes))
            }
        });
        let current = lines.next().ok_or(SecretError)??;
        let previous = lines.next().transpose()?;
        if lines.next().is_some() {
            return Err(SecretError);
        }
        Ok(Self { current, previous })
    }
}

impl fmt::Debug for ServerSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSecrets(..)")
    }
}

struct Len32;

impl KeyType for Len32 {
    fn len(&self) -> usize {
        32
    }
}

fn derive(secret: &[u8], purpose: Purpose) -> [u8; 32] {
    let info = match purpose {
        Purpose::RefreshTokens => b"auth-service refresh tokens v1".as_slice(),
        Purpose::DeviceTokens => b"auth-service device tokens v1".as_slice(),
        Purpose::SigningKeys => b"auth-service signing keys v1".as_slice(),
        Purpose::Attempts => b"auth-service attempts v1".as_slice(),
        Purpose::AccountCodes => b"auth-service account codes v1".as_slice(),
        Purpose::MailRequests => b"auth-service mail requests v1".as_slice(),
        Purpose::MailQuota => b"auth-service mail quota v1".as_slice(),
        Purpose::GuestCredentials => b"auth-service guest credentials v1".as_slice(),
        Purpose::TotpSecrets => b"auth-service totp secrets v1",
        Purpose::RecoveryCodes => b"auth-service recovery codes v1",
        Purpose::LoginChallenges => b"auth-service login challenges v1",
    };
    let mut key = [0; 32];
    Salt::new(HKDF_SHA256, &[])
        .extract(secret)
        .expand(&[info], Len32)
        .and_then(|okm| okm.fill(&mut key))
        .expect("32 bytes are within what HKDF-SHA-256 gives");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_can_be_parsed() {
        let text = ServerSecrets::generate();
        let secrets: ServerSecrets = text.expose_secret().parse().expect("a secret");
        let (refresh, signing) = (
            secrets.derive(Purpose::RefreshTokens),
            secrets.derive(Purpose::SigningKeys),
        );
        assert_eq!((refresh.len(), signing.len()), (1, 1));
        assert_ne!(refresh, signing);
        assert_eq!(format!("{secrets:?}"), "ServerSecrets(..)");
    }

    #[test]
    fn the_previous_secret_is_accepted_on_the_second_line() {
        let (new, old) = (ServerSecrets::generate(), ServerSecrets::generate());
        let both: ServerSecrets = format!("{}{}", new.expose_secret(), old.expose_secret())
            .parse()
            .expect("two secrets");
        let old: ServerSecrets = old.expose_secret().parse().expect("a secret");
        let keys = both.derive(Purpose::RefreshTokens);
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[1..], old.derive(Purpose::RefreshTokens));
    }

    #[test]
    fn a_weak_secret_is_refused() {
        let good = ServerSecrets::generate();
        let three = good.expose_secret().repeat(3);
        for bad in ["", "\n", "not base64!", "c2hvcnQ=", &three] {
            assert!(bad.parse::<ServerSecrets>().is_err(), "{bad:?}");
        }
    }
}
