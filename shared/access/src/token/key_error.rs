//! Errors of a set of keys.

/// In bytes. A key takes about 200.
pub(super) const MAX_LEN: usize = 64 * 1024;

/// Why something is not a set of public keys to verify with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither JSON of the right form nor PEM.
    #[error("it is neither a JSON Web Key Set nor PEM")]
    NotKeys,
    /// Larger than any set of keys has reason to be.
    #[error("it is larger than {} KiB", MAX_LEN / 1024)]
    TooLarge,
    /// A private or secret key is in it, which verifiers must never see.
    #[error(
        "it holds a private or secret key: give the public key alone, and replace this one if others could read it"
    )]
    PrivateKey,
    /// Two keys have this name.
    #[error("two of its keys have the kid {0:?}")]
    DuplicateKid(String),
    /// An Ed25519 key that cannot be used, and why.
    #[error("one of its keys cannot be used: {0}")]
    BadKey(&'static str),
    /// A PEM section that is not `PUBLIC KEY`.
    #[error("it holds a PEM section other than PUBLIC KEY")]
    OtherPem,
    /// Not one key that could verify an access token.
    #[error("it holds no Ed25519 key for EdDSA signatures")]
    Empty,
}
