//! Errors of a set of public keys.

/// Largest set of keys, in bytes. A key takes about 200.
pub(super) const MAX_LEN: usize = 64 * 1024;

/// Reason why some input is not a set of public keys for verification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither JSON of the right form nor PEM.
    #[error("it is neither a JSON Web Key Set nor PEM")]
    NotKeys,
    /// Larger than any reasonable set of keys.
    #[error("it is larger than {} KiB", MAX_LEN / 1024)]
    TooLarge,
    /// Contains a private or secret key, which a verifier must never see.
    #[error("it holds a private or secret key: give only the public key, and replace this one if others could read it")]
    PrivateKey,
    /// Two keys have this `kid`.
    #[error("two of its keys have the kid {0:?}")]
    DuplicateKid(String),
    /// An Ed25519 key cannot be used, for this reason.
    #[error("one of its keys cannot be used: {0}")]
    BadKey(&'static str),
    /// Contains a PEM section other than `PUBLIC KEY`.
    #[error("it holds a PEM section other than PUBLIC KEY")]
    OtherPem,
    /// Contains no key that could verify an access token.
    #[error("it holds no Ed25519 key for EdDSA signatures")]
    Empty,
}
