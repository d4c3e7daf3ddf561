//! Credentials with which guests log in: `g1.<user id>.<256 random bits>`. Only the HMAC of a
//! credential is stored, under a key that is derived from the server secret. A credential is valid
//! until the account is upgraded or deleted.

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256, Key},
    rand,
};
use base::ids::UserId;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::keys::{
    mac_keys::MAX_LEN,
    secret::{Purpose, ServerSecrets},
};

const VERSION: &str = "g1";
/// Number of random bytes. They cannot be guessed, even without a limit on attempts.
const RANDOM_BYTES: usize = 32;
/// Length of the random bytes in base64, in characters.
const RANDOM_LEN: usize = 43;

/// Makes and checks the credentials of guests.
#[derive(Clone, Debug)]
pub(crate) struct GuestCredentials {
    /// Keys, the current one first. There is at least one.
    keys: Vec<Key>,
}

/// A credential that a caller presents. It may belong to no guest.
#[derive(Clone, Debug)]
pub(in crate::domain) struct PresentedCredential {
    pub(in crate::domain) user_id: UserId,
    text: SecretString,
}

/// Result of the verification of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::domain) enum CredentialVerdict {
    Wrong,
    Right,
    /// The credential is right, but its stored HMAC was made with the previous key. Contains the
    /// HMAC with the current key.
    RightButOutdated(Vec<u8>),
}

impl GuestCredentials {
    pub(crate) fn new(secrets: &ServerSecrets) -> Self {
        let keys = secrets.derive(Purpose::GuestCredentials);
        Self {
            keys: keys.iter().map(|key| Key::new(HMAC_SHA256, key)).collect(),
        }
    }

    /// Returns a new credential for this user, and the HMAC to store.
    pub(in crate::domain) fn generate(&self, user_id: UserId) -> (SecretString, Vec<u8>) {
        let mut random = [0; RANDOM_BYTES];
        rand::fill(&mut random).expect("the operating system gives random bytes");
        let text = format!("{VERSION}.{user_id}.{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        let mac = self.mac(&text);
        (SecretString::from(text), mac)
    }

    /// Verifies a credential by the stored HMAC.
    pub(in crate::domain) fn verify(&self, presented: &PresentedCredential, stored: &[u8]) -> CredentialVerdict {
        let text = presented.text.expose_secret();
        let is_by = |key: &Key| hmac::verify(key, text.as_bytes(), stored).is_ok();
        match self.keys.iter().position(is_by) {
            None => CredentialVerdict::Wrong,
            Some(0) => CredentialVerdict::Right,
            Some(_) => CredentialVerdict::RightButOutdated(self.mac(text)),
        }
    }

    fn mac(&self, text: &str) -> Vec<u8> {
        hmac::sign(&self.keys[0], text.as_bytes()).as_ref().to_vec()
    }
}

impl PresentedCredential {
    /// Reads the user from the text. Returns `None` if this cannot be a credential.
    pub(in crate::domain) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let mut parts = text.split('.');
        let (VERSION, user_id, random, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        Some(Self {
            user_id: user_id.parse().ok().filter(|_| random.len() == RANDOM_LEN)?,
            text: SecretString::from(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(secrets: &str) -> GuestCredentials {
        GuestCredentials::new(&secrets.parse().expect("secrets"))
    }

    fn presented(text: &SecretString) -> PresentedCredential {
        PresentedCredential::parse(text.expose_secret()).expect("a credential")
    }

    #[test]
    fn only_the_credential_itself_is_right() {
        let credentials = credentials(ServerSecrets::generate().expose_secret());
        let user = UserId::generate();
        let (text, mac) = credentials.generate(user);
        let (other, _) = credentials.generate(user);
        assert_eq!(presented(&text).user_id, user);
        assert_eq!(credentials.verify(&presented(&text), &mac), CredentialVerdict::Right);
        assert_eq!(credentials.verify(&presented(&other), &mac), CredentialVerdict::Wrong);
        assert_eq!(credentials.verify(&presented(&text), &[]), CredentialVerdict::Wrong);
        let text = text.expose_secret();
        assert!(!format!("{:?}", PresentedCredential::parse(text)).contains(&text[40..]));
        for altered in [
            "",
            "g1",
            "g1..",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}A"),
            &text.repeat(9),
        ] {
            assert!(PresentedCredential::parse(altered).is_none(), "{altered}");
        }
        for index in text.len() - RANDOM_LEN..text.len() {
            let mut altered = text.to_owned().into_bytes();
            altered[index] = if altered[index] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).expect("ASCII");
            let altered = PresentedCredential::parse(&altered).expect("well-formed");
            assert_eq!(credentials.verify(&altered, &mac), CredentialVerdict::Wrong);
        }
    }

    #[test]
    fn a_credential_survives_the_replacement_of_the_server_secret() {
        let (old, new) = (ServerSecrets::generate(), ServerSecrets::generate());
        let (before, between, after) = (
            credentials(old.expose_secret()),
            credentials(&format!("{}{}", new.expose_secret(), old.expose_secret())),
            credentials(new.expose_secret()),
        );
        let (text, mac) = before.generate(UserId::generate());
        let CredentialVerdict::RightButOutdated(renewed) = between.verify(&presented(&text), &mac) else {
            panic!("not renewed");
        };
        assert_eq!(after.verify(&presented(&text), &renewed), CredentialVerdict::Right);
        assert_eq!(after.verify(&presented(&text), &mac), CredentialVerdict::Wrong);
    }
}
