//! The key that signs (Ed25519, RFC 8037), and the encryption of private keys in the database. They
//! are stored in PKCS#8, encrypted with a key that is not in the database.

use access::token::{Claims, KeyError, TOKEN_TYPE};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Header};
use secrecy::SecretString;

use crate::{
    domain::keys::{
        sealing_keys::SealingKeys,
        secret::{Purpose, ServerSecrets},
    },
    model::SigningKeyRecord,
};

/// Reason why the keys cannot be created or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyRingError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// The keys were encrypted with another secret.
    #[error("cannot decrypt the signing key {0}: the server secret is not the one that it was stored with")]
    WrongSecret(String),
    /// No key is active.
    #[error("the database has no active signing key")]
    NoneActive,
    /// A stored private key is not an Ed25519 key.
    #[error("the stored signing key {0} is not an Ed25519 key in PKCS#8")]
    NotPrivate(String),
    /// A stored public key cannot be used.
    #[error("a stored signing key cannot be used: {0}")]
    Unusable(#[from] KeyError),
    /// The cryptography library failed.
    #[error("cannot create a signing key")]
    Crypto,
}

/// The key that signs.
pub(in crate::domain) struct SigningKey {
    kid: String,
    /// Encoded header of the tokens that the key signs.
    header: String,
    /// Parsed key. `jsonwebtoken` would parse it for each token and compute its public key, which
    /// takes as long as the signature.
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// Reads the key with this id from its PKCS#8 form.
    pub(in crate::domain) fn new(kid: &str, private: &[u8]) -> Result<Self, KeyRingError> {
        let pair = Ed25519KeyPair::from_pkcs8(private).map_err(|_| KeyRingError::NotPrivate(kid.to_owned()))?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(kid.to_owned());
        let header = serde_json::to_vec(&header).map_err(|_| KeyRingError::Crypto)?;
        Ok(Self {
            kid: kid.to_owned(),
            header: BASE64_URL_SAFE_NO_PAD.encode(header),
            pair,
        })
    }

    pub(in crate::domain) fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the token with these claims: a JWS in its compact form (RFC 7515).
    pub(in crate::domain) fn sign(&self, claims: &Claims) -> serde_json::Result<SecretString> {
        let mut token = self.header.clone();
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims)?, &mut token);
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(SecretString::from(token))
    }
}

/// Encrypts a private key. The key id is authenticated as well, so that no row can pass for
/// another.
pub(in crate::domain) fn encrypt(secrets: &ServerSecrets, kid: &str, private: &[u8]) -> Result<Vec<u8>, KeyRingError> {
    SealingKeys::new(secrets, Purpose::SigningKeys)
        .seal(kid.as_bytes(), private)
        .ok_or(KeyRingError::Crypto)
}

/// Returns the private key, and whether it was encrypted with the current secret.
pub(in crate::domain) fn decrypt(
    secrets: &ServerSecrets,
    row: &SigningKeyRecord,
) -> Result<(Vec<u8>, bool), KeyRingError> {
    SealingKeys::new(secrets, Purpose::SigningKeys)
        .open(row.kid.as_bytes(), &row.encrypted_private_key)
        .ok_or_else(|| KeyRingError::WrongSecret(row.kid.clone()))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::KeyPair as _;
    use base::{
        clock::{Clock, Timestamp},
        ids::UserId,
    };
    use jsonwebtoken::{DecodingKey, Validation};
    use secrecy::ExposeSecret as _;
    use testing::tokens::TokenMint;

    use super::*;

    const PRIVATE: &[u8] = b"a private key of some length";

    fn secrets() -> ServerSecrets {
        ServerSecrets::generate().expose_secret().parse().expect("a secret")
    }

    fn row(secrets: &ServerSecrets) -> SigningKeyRecord {
        let now = Timestamp::from_micros(0);
        SigningKeyRecord {
            kid: "kid".to_owned(),
            state: crate::model::KeyState::Active,
            public_key: Vec::new(),
            encrypted_private_key: encrypt(secrets, "kid", PRIVATE).expect("encrypted"),
            create_time: now,
            activate_time: now,
            retire_time: None,
            expire_time: None,
        }
    }

    #[test]
    fn a_private_key_is_decrypted_only_with_its_own_secret() {
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
    fn tokens_can_be_verified_with_the_jsonwebtoken_library() {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let key = SigningKey::new("a name", pair.to_pkcs8().expect("PKCS#8").as_ref()).expect("a key that signs");
        let claims = TokenMint::fixed(1).claims_for(UserId::generate(), "ann", &["player"], Clock::system().now());
        let token = key.sign(&claims).expect("signed");
        let public = DecodingKey::from_ed_der(pair.public_key().as_ref());
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(claims.aud.names());
        validation.set_issuer(&[&claims.iss]);
        let read = jsonwebtoken::decode::<Claims>(token.expose_secret(), &public, &validation).expect("a token");
        assert_eq!(read.claims, claims);
        assert_eq!(read.header.typ.as_deref(), Some(TOKEN_TYPE));
        assert_eq!(read.header.kid.as_deref(), Some("a name"));
        assert!(matches!(
            SigningKey::new("a name", PRIVATE),
            Err(KeyRingError::NotPrivate(_))
        ));
    }

    #[test]
    fn an_encrypted_key_is_bound_to_its_id() {
        let mine = secrets();
        let moved = SigningKeyRecord {
            kid: "another".to_owned(),
            ..row(&mine)
        };
        assert!(decrypt(&mine, &moved).is_err());
    }
}
