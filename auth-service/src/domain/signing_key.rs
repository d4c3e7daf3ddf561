//! How private keys lie in the database: Ed25519 (RFC 8037) in PKCS#8, encrypted with a key that is not in it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use shared::{db, token::KeyError};

use super::secret::{Purpose, ServerSecrets};
use crate::store::SigningKeyRow;

/// The keys cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyRingError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// The keys were encrypted with another secret.
    #[error("cannot decrypt the signing key {0}: the server secret is not the one that it was stored with")]
    WrongSecret(String),
    /// There is none that signs.
    #[error("the database holds no active signing key")]
    NoneActive,
    /// A stored public key is not one.
    #[error("a stored signing key cannot be used: {0}")]
    Unusable(#[from] KeyError),
    /// The library failed.
    #[error("cannot make a signing key")]
    Crypto,
}

/// AES-256-GCM: the nonce, then the ciphertext. The key id is authenticated with it, so that no row can pass for another.
pub(super) fn encrypt(secrets: &ServerSecrets, kid: &str, private: &[u8]) -> Result<Vec<u8>, KeyRingError> {
    let keys = secrets.derive(Purpose::SigningKeys);
    let key = RandomizedNonceKey::new(&AES_256_GCM, &keys[0]).map_err(|_| KeyRingError::Crypto)?;
    let mut sealed = private.to_vec();
    let nonce = key
        .seal_in_place_append_tag(Aad::from(kid.as_bytes()), &mut sealed)
        .map_err(|_| KeyRingError::Crypto)?;
    Ok([nonce.as_ref().as_slice(), &sealed].concat())
}

/// The private key, and whether it was encrypted with the current secret.
pub(super) fn decrypt(secrets: &ServerSecrets, row: &SigningKeyRow) -> Result<(Vec<u8>, bool), KeyRingError> {
    let wrong = || KeyRingError::WrongSecret(row.kid.clone());
    let (nonce, sealed) = row
        .encrypted_private_key
        .split_first_chunk::<NONCE_LEN>()
        .ok_or_else(wrong)?;
    secrets
        .derive(Purpose::SigningKeys)
        .iter()
        .enumerate()
        .find_map(|(index, key)| {
            let key = RandomizedNonceKey::new(&AES_256_GCM, key).ok()?;
            let mut buffer = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            key.open_in_place(nonce, Aad::from(row.kid.as_bytes()), &mut buffer)
                .ok()
                .map(|private| (private.to_vec(), index == 0))
        })
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use shared::clock::Timestamp;

    use super::*;

    const PRIVATE: &[u8] = b"a private key of some length";

    fn secrets() -> ServerSecrets {
        ServerSecrets::generate().expose_secret().parse().expect("a secret")
    }

    fn row(secrets: &ServerSecrets) -> SigningKeyRow {
        let now = Timestamp::from_micros(0);
        SigningKeyRow {
            kid: "kid".to_owned(),
            state: "active".to_owned(),
            public_key: Vec::new(),
            encrypted_private_key: encrypt(secrets, "kid", PRIVATE).expect("encrypted"),
            create_time: now,
            activate_time: now,
            retire_time: None,
            expire_time: None,
        }
    }

    #[test]
    fn a_key_is_read_with_its_secret_alone() {
        let (mine, other) = (secrets(), secrets());
        let row = row(&mine);
        let (private, is_current) = decrypt(&mine, &row).expect("the right secret");
        assert!(is_current);
        assert_eq!(private, PRIVATE);
        assert!(
            !row.encrypted_private_key
                .windows(8)
                .any(|window| PRIVATE.windows(8).any(|plain| plain == window))
        );
        assert!(matches!(decrypt(&other, &row), Err(KeyRingError::WrongSecret(_))));
    }

    #[test]
    fn a_key_is_bound_to_its_id() {
        let mine = secrets();
        let moved = SigningKeyRow {
            kid: "another".to_owned(),
            ..row(&mine)
        };
        assert!(decrypt(&mine, &moved).is_err());
    }
}
