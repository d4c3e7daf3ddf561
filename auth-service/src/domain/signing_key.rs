//! The keys that sign access tokens: Ed25519 (RFC 8037), named by their RFC 7638 thumbprint, encrypted at rest.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use jsonwebtoken::EncodingKey;
use shared::{
    clock::Timestamp,
    db::{self, Conn},
    token::{Jwk, Jwks, KeyError},
};

use super::secret::{Purpose, ServerSecrets};
use crate::store::{self, KeyState, SigningKeyRow};

/// The keys as they are in use.
pub(crate) struct KeyRing {
    active: SigningKey,
    jwks: Jwks,
}

/// The key that signs.
pub(crate) struct SigningKey {
    pub(crate) kid: String,
    pub(crate) key: EncodingKey,
}

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

impl KeyRing {
    /// Reads the keys; makes the first one where there is none. Run under the migration lock, so that of many
    /// replicas on a new database one makes it.
    pub(crate) async fn open(conn: &mut Conn, secrets: &ServerSecrets, now: Timestamp) -> Result<Self, KeyRingError> {
        let mut rows = store::signing_keys_list(conn).await?;
        if rows.is_empty() {
            let row = generate(secrets, now)?;
            store::signing_key_insert(conn, &row).await?;
            tracing::info!(kid = row.kid, "made the first signing key");
            rows.push(row);
        }
        let jwks = rows
            .iter()
            .map(|row| {
                let public: &[u8; 32] = row.public_key.as_slice().try_into().map_err(|_| KeyRingError::Crypto)?;
                Ok(Jwk::from_public_key(public)?)
            })
            .collect::<Result<Vec<_>, KeyRingError>>()?;
        let mut active = None;
        for row in &rows {
            let (private, is_current) = decrypt(secrets, row)?;
            if !is_current {
                // So that the secret before can be given up once this has run.
                let encrypted = encrypt(secrets, &row.kid, &private)?;
                store::signing_key_reencrypt(conn, &row.kid, &encrypted).await?;
                tracing::info!(kid = row.kid, "encrypted a signing key with the current server secret");
            }
            if row.state == KeyState::Active.as_str() {
                active = Some((row, private));
            }
        }
        let (active, private) = active.ok_or(KeyRingError::NoneActive)?;
        Ok(Self {
            active: SigningKey {
                kid: active.kid.clone(),
                key: EncodingKey::from_ed_der(&private),
            },
            jwks: Jwks::new(jwks)?,
        })
    }

    /// The key that signs.
    pub(crate) const fn active(&self) -> &SigningKey {
        &self.active
    }

    /// The public keys of every token that may still be good.
    pub(crate) const fn jwks(&self) -> &Jwks {
        &self.jwks
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("active", &self.active.kid)
            .finish_non_exhaustive()
    }
}

fn generate(secrets: &ServerSecrets, now: Timestamp) -> Result<SigningKeyRow, KeyRingError> {
    let pair = Ed25519KeyPair::generate().map_err(|_| KeyRingError::Crypto)?;
    let pkcs8 = pair.to_pkcs8().map_err(|_| KeyRingError::Crypto)?;
    let public = pair.public_key().as_ref();
    let kid = Jwk::from_public_key(public.try_into().map_err(|_| KeyRingError::Crypto)?)?
        .kid()
        .to_owned();
    Ok(SigningKeyRow {
        state: KeyState::Active.as_str().to_owned(),
        public_key: public.to_vec(),
        encrypted_private_key: encrypt(secrets, &kid, pkcs8.as_ref())?,
        create_time: now,
        activate_time: now,
        retire_time: None,
        expire_time: None,
        kid,
    })
}

/// AES-256-GCM: the nonce, then the ciphertext. The key id is authenticated with it, so that no row can pass for another.
fn encrypt(secrets: &ServerSecrets, kid: &str, private: &[u8]) -> Result<Vec<u8>, KeyRingError> {
    let keys = secrets.derive(Purpose::SigningKeys);
    let key = RandomizedNonceKey::new(&AES_256_GCM, &keys[0]).map_err(|_| KeyRingError::Crypto)?;
    let mut sealed = private.to_vec();
    let nonce = key
        .seal_in_place_append_tag(Aad::from(kid.as_bytes()), &mut sealed)
        .map_err(|_| KeyRingError::Crypto)?;
    Ok([nonce.as_ref().as_slice(), &sealed].concat())
}

/// The private key, and whether it was encrypted with the current secret.
fn decrypt(secrets: &ServerSecrets, row: &SigningKeyRow) -> Result<(Vec<u8>, bool), KeyRingError> {
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

    use super::*;

    fn secrets() -> ServerSecrets {
        ServerSecrets::generate().expose_secret().parse().expect("a secret")
    }

    #[test]
    fn a_key_is_read_with_its_secret_alone() {
        let (mine, other) = (secrets(), secrets());
        let row = generate(&mine, Timestamp::from_micros(0)).expect("a key");
        let (private, is_current) = decrypt(&mine, &row).expect("the right secret");
        assert!(is_current);
        assert!(Ed25519KeyPair::from_pkcs8(&private).is_ok());
        assert!(
            !row.encrypted_private_key
                .windows(16)
                .any(|window| private.windows(16).any(|plain| plain == window))
        );
        assert!(matches!(decrypt(&other, &row), Err(KeyRingError::WrongSecret(_))));
    }

    #[test]
    fn a_key_is_bound_to_its_id() {
        let mine = secrets();
        let row = generate(&mine, Timestamp::from_micros(0)).expect("a key");
        let moved = SigningKeyRow {
            kid: "another".to_owned(),
            ..row
        };
        assert!(decrypt(&mine, &moved).is_err());
    }
}
