//! Password hashes that another system made. A user who was imported with one logs in with the same
//! password as before, and the login replaces the hash by one of ours.
//!
//! A hash is stored as the other system wrote it, except that `argon2` is put before a PHC string
//! of argon2, as Django does. So an imported hash never begins like one of ours. The password is
//! verified as it was typed, because other systems do not normalize it.

mod cost;
mod parse;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest,
    pbkdf2::{self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA512},
};
use secrecy::SecretString;

pub(in crate::domain) use self::cost::{Cost, Digest};
pub(crate) use self::cost::{HashLimits, InvalidHash};

/// Beginning of the hashes that this program makes: PHC strings of argon2id.
const OWN: &str = "$argon2id$";
/// Beginning of PHC strings of argon2 in any variant.
const ARGON2_PHC: &str = "$argon2";
/// Text before a PHC string of argon2 that was imported.
const ARGON2: &str = "argon2";
/// Maximum size of a password that bcrypt reads, with the NUL at its end, in bytes.
const BCRYPT_BYTES: usize = 72;
/// Size of a bcrypt hash, in bytes. bcrypt computes one more, which it never shows.
const BCRYPT_OUTPUT: usize = 23;

/// A password hash that another system made. Its cost is within the limits that it was parsed with.
pub(in crate::domain) struct ImportedHash {
    method: Method,
    salt: Vec<u8>,
    output: Vec<u8>,
}

/// An imported hash, checked and as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct CheckedHash {
    pub(in crate::domain) text: SecretString,
    pub(in crate::domain) cost: Cost,
}

#[derive(Clone, Copy, Debug)]
enum Method {
    Pbkdf2 {
        digest: Digest,
        iterations: u32,
    },
    /// With `is_prehashed`, bcrypt reads the SHA-256 of the password in hexadecimal digits.
    Bcrypt {
        cost: u32,
        is_prehashed: bool,
    },
    Scrypt {
        log_n: u8,
        r: u32,
        p: u32,
    },
    Argon2 {
        algorithm: Algorithm,
        version: Version,
        memory_kib: u32,
        passes: u32,
        lanes: u32,
    },
}

/// Returns whether the hash was imported, and so does not have our form.
pub(in crate::domain) fn is_imported(hash: &str) -> bool {
    !hash.starts_with(OWN)
}

impl CheckedHash {
    /// Checks a hash that is to be imported: it must be complete, strong enough, and cost no more
    /// than these limits allow.
    pub(crate) fn new(text: &str, limits: HashLimits) -> Result<Self, InvalidHash> {
        let cost = ImportedHash::parse(text, limits)?.cost();
        cost.ensure_strong_enough()?;
        let prefix = if text.starts_with(ARGON2_PHC) { ARGON2 } else { "" };
        Ok(Self {
            text: SecretString::from(format!("{prefix}{text}")),
            cost,
        })
    }
}

impl ImportedHash {
    /// Returns the cost of the hash.
    pub(in crate::domain) fn cost(&self) -> Cost {
        match self.method {
            Method::Pbkdf2 { digest, iterations } => Cost::Pbkdf2 { digest, iterations },
            Method::Bcrypt { cost, .. } => Cost::Bcrypt { cost },
            Method::Scrypt { log_n, r, p } => Cost::Scrypt { log_n, r, p },
            Method::Argon2 {
                memory_kib,
                passes,
                lanes,
                ..
            } => Cost::Argon2 {
                memory_kib,
                passes,
                lanes,
            },
        }
    }

    /// Returns a random hash of this cost, which no known password matches.
    pub(in crate::domain) fn random(cost: Cost) -> Self {
        let method = match cost {
            Cost::Pbkdf2 { digest, iterations } => Method::Pbkdf2 { digest, iterations },
            Cost::Bcrypt { cost } => Method::Bcrypt {
                cost,
                is_prehashed: false,
            },
            Cost::Scrypt { log_n, r, p } => Method::Scrypt { log_n, r, p },
            Cost::Argon2 {
                memory_kib,
                passes,
                lanes,
            } => Method::Argon2 {
                algorithm: Algorithm::Argon2id,
                version: Version::V0x13,
                memory_kib,
                passes,
                lanes,
            },
        };
        let mut bytes = [0; 16 + BCRYPT_OUTPUT];
        rand::fill(&mut bytes[..]);
        let (salt, output) = bytes.split_at(16);
        // The output of PBKDF2 must not be longer than that of SHA-1, or it would cost twice.
        let output = if matches!(method, Method::Bcrypt { .. }) {
            output
        } else {
            &output[..20]
        };
        Self {
            method,
            salt: salt.to_vec(),
            output: output.to_vec(),
        }
    }

    /// Returns whether this is the hash of the password, after a comparison in constant time.
    pub(in crate::domain) fn is_of(&self, password: &[u8], memory: &mut Vec<Block>) -> Result<bool, argon2::Error> {
        let mut output = vec![0; self.output.len()];
        match self.method {
            Method::Pbkdf2 { digest, iterations } => {
                let algorithm = match digest {
                    Digest::Sha1 => PBKDF2_HMAC_SHA1,
                    Digest::Sha256 => PBKDF2_HMAC_SHA256,
                    Digest::Sha512 => PBKDF2_HMAC_SHA512,
                };
                let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
                pbkdf2::derive(algorithm, iterations, &self.salt, password, &mut output);
            }
            Method::Bcrypt { cost, is_prehashed } => {
                let read = if is_prehashed {
                    bcrypt_input(hex(digest::digest(&digest::SHA256, password).as_ref()).as_bytes())
                } else {
                    bcrypt_input(password)
                };
                let salt: [u8; 16] = self
                    .salt
                    .as_slice()
                    .try_into()
                    .map_err(|_| argon2::Error::SaltTooShort)?;
                output.copy_from_slice(&bcrypt::bcrypt(cost, salt, &read)[..BCRYPT_OUTPUT]);
            }
            Method::Scrypt { log_n, r, p } => {
                let params = scrypt::Params::new(log_n, r, p).map_err(|_| argon2::Error::MemoryTooMuch)?;
                scrypt::scrypt(password, &self.salt, &params, &mut output)
                    .map_err(|_| argon2::Error::OutputTooShort)?;
            }
            Method::Argon2 {
                algorithm,
                version,
                memory_kib,
                passes,
                lanes,
            } => {
                let argon2 = Argon2::new(algorithm, version, Params::new(memory_kib, passes, lanes, None)?);
                let blocks = argon2.params().block_count();
                if memory.len() < blocks {
                    memory.resize(blocks, Block::default());
                }
                argon2.hash_password_into_with_memory(password, &self.salt, &mut output, &mut memory[..blocks])?;
            }
        }
        Ok(verify_slices_are_equal(&output, &self.output).is_ok())
    }
}

impl std::fmt::Debug for ImportedHash {
    /// Shows the cost only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ImportedHash").field(&self.cost()).finish()
    }
}

/// Returns what bcrypt reads of a password: at most 72 bytes, of which the last is NUL if there is
/// room for it.
fn bcrypt_input(password: &[u8]) -> Vec<u8> {
    let mut read = password.to_vec();
    read.push(0);
    read.truncate(BCRYPT_BYTES);
    read
}

/// Returns the bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
