//! Encryption of values in the database, with keys that are not in the database (AES-256-GCM).

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use crate::domain::keys::secret::{Purpose, ServerSecrets};

/// Keys for one kind of value, the current one first. There is at least one.
#[derive(Clone)]
pub(in crate::domain) struct SealingKeys(Vec<[u8; 32]>);

impl SealingKeys {
    pub(in crate::domain) fn new(secrets: &ServerSecrets, purpose: Purpose) -> Self {
        Self(secrets.derive(purpose))
    }

    /// Returns whether values may be encrypted with a key other than the current one.
    pub(in crate::domain) const fn has_previous(&self) -> bool {
        self.0.len() > 1
    }

    /// Encrypts a value. Returns the nonce followed by the ciphertext. The name of the value is
    /// authenticated as well, so that no value can pass for another. Returns `None` if the
    /// cryptography library fails.
    pub(in crate::domain) fn seal(&self, name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0[0]).ok()?;
        let mut sealed = value.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(name), &mut sealed).ok()?;
        Some([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// Returns the value, and whether it was encrypted with the current key. Returns `None` if it
    /// was not encrypted under this name with any of the keys.
    pub(in crate::domain) fn open(&self, name: &[u8], sealed: &[u8]) -> Option<(Vec<u8>, bool)> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        self.0.iter().enumerate().find_map(|(index, key)| {
            let key = RandomizedNonceKey::new(&AES_256_GCM, key).ok()?;
            let mut buffer = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let value = key.open_in_place(nonce, Aad::from(name), &mut buffer).ok()?;
            Some((value.to_vec(), index == 0))
        })
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKeys(..)")
    }
}
