//! Nonces of external logins: `n1.<expiry>.<provider>.<128 random bits>.<HMAC>`.
//!
//! A nonce binds an ID token to one login at this deployment, so that an ID token that was issued
//! for something else, or was used before, is refused. It authenticates itself: nothing is stored
//! until it is used. Used ones are remembered for longer than they are valid.

use std::time::Duration;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base::clock::{ALLOWANCE, Timestamp};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::SecretString;

use crate::domain::keys::{
    mac_keys::MacKeys,
    secret::{Purpose, ServerSecrets},
};

const VERSION: &str = "n1";
/// Time within which a nonce can be used. People may have to log in to the provider first.
pub(in crate::domain) const LIFE: Duration = Duration::from_mins(10);
const RANDOM_BYTES: usize = 16;

/// Makes and reads nonces.
#[derive(Clone, Debug)]
pub(crate) struct ExternalNonces {
    keys: MacKeys,
}

/// A nonce that was made by this deployment and has not expired. It may have been used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::domain) struct PresentedNonce {
    /// SHA-256 of the nonce.
    pub(super) digest: Vec<u8>,
    pub(super) expire_time: Timestamp,
}

impl ExternalNonces {
    pub(crate) fn new(secrets: &ServerSecrets) -> Self {
        Self {
            keys: MacKeys::new(secrets, Purpose::ExternalNonces),
        }
    }

    /// Returns a new nonce for a login with this provider.
    pub(super) fn make(&self, provider: &str, now: Timestamp) -> SecretString {
        let mut random = [0; RANDOM_BYTES];
        rand::fill(&mut random).expect("the operating system gives random bytes");
        let random = BASE64_URL_SAFE_NO_PAD.encode(random);
        let expiry = now.plus(LIFE).as_seconds();
        self.keys.seal(&format!("{VERSION}.{expiry}.{provider}.{random}"))
    }

    /// Returns the nonce, if it was made for this provider and has not expired.
    pub(super) fn open(&self, nonce: &str, provider: &str, now: Timestamp) -> Option<PresentedNonce> {
        let mut parts = self.keys.open(nonce)?.split('.');
        let (VERSION, expiry, named, _, None) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next())
        else {
            return None;
        };
        let expire_time = Timestamp::from_micros(expiry.parse::<i64>().ok()?.checked_mul(1_000_000)?);
        // A nonce that would be valid for longer was made by a clock that was wrong.
        let is_live = now < expire_time && expire_time <= now.plus(LIFE + ALLOWANCE);
        (named == provider && is_live).then(|| PresentedNonce {
            digest: digest(&SHA256, nonce.as_bytes()).as_ref().to_vec(),
            expire_time,
        })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::domain::keys::mac_keys::MAX_LEN;

    const NOW: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

    fn nonces(secrets: &str) -> ExternalNonces {
        ExternalNonces::new(&secrets.parse().expect("secrets"))
    }

    #[test]
    fn a_nonce_is_valid_for_its_provider_and_ten_minutes() {
        let nonces = nonces(ServerSecrets::generate().expose_secret());
        let name = "a".repeat(32);
        let nonce = nonces.make(&name, NOW);
        let nonce = nonce.expose_secret();
        assert!(nonce.len() <= MAX_LEN, "{}", nonce.len());
        let opened = nonces.open(nonce, &name, NOW).expect("a nonce");
        assert_eq!(opened.expire_time, NOW.plus(LIFE));
        let last = NOW.plus(LIFE).minus(Duration::from_micros(1));
        assert_eq!(nonces.open(nonce, &name, last), Some(opened.clone()));
        assert_eq!(nonces.open(nonce, &name, NOW.minus(ALLOWANCE)), Some(opened));
        assert_eq!(nonces.open(nonce, &name, NOW.plus(LIFE)), None);
        assert_eq!(nonces.open(nonce, &name, NOW.minus(ALLOWANCE * 2)), None);
        assert_eq!(nonces.open(nonce, "google", NOW), None);
        assert_ne!(nonces.make(&name, NOW).expose_secret(), nonce);
    }

    #[test]
    fn every_altered_nonce_is_refused() {
        let nonces = nonces(ServerSecrets::generate().expose_secret());
        let nonce = nonces.make("google", NOW);
        let nonce = nonce.expose_secret();
        for index in 0..nonce.len() {
            let mut altered = nonce.to_owned().into_bytes();
            altered[index] = if altered[index] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).expect("ASCII");
            assert_eq!(nonces.open(&altered, "google", NOW), None, "{altered}");
        }
        for altered in [
            "",
            "n1",
            "n1....",
            &nonce[1..],
            &format!("{nonce}A"),
            &"n1.".repeat(1000),
        ] {
            assert_eq!(nonces.open(altered, "google", NOW), None, "{altered}");
        }
    }

    #[test]
    fn a_nonce_survives_the_replacement_of_the_server_secret() {
        let (old, new) = (ServerSecrets::generate(), ServerSecrets::generate());
        let nonce = nonces(old.expose_secret()).make("google", NOW);
        let between = nonces(&format!("{}{}", new.expose_secret(), old.expose_secret()));
        assert!(between.open(nonce.expose_secret(), "google", NOW).is_some());
        let after = nonces(new.expose_secret());
        assert_eq!(after.open(nonce.expose_secret(), "google", NOW), None);
    }
}
