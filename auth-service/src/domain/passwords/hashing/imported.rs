//! Verification of hashes that were imported from another system.

use argon2::Block;

use super::own::Verdict;
use crate::domain::passwords::{
    imported::{Cost, HashLimits, ImportedHash},
    password::Password,
};

/// Verifies a password against a hash of another system. Returns its cost as well.
pub(super) fn verify_imported(
    hash: &str,
    password: &Password,
    memory: &mut Vec<Block>,
) -> Result<(Verdict, Cost), argon2::password_hash::Error> {
    let stored =
        ImportedHash::parse(hash, HashLimits::HIGHEST).map_err(|_| argon2::password_hash::Error::EncodingInvalid)?;
    let verdict = if stored.is_of(password.as_typed(), memory)? {
        Verdict::RightButOutdated
    } else {
        Verdict::Wrong
    };
    Ok((verdict, stored.cost()))
}
