//! Our own hashes: argon2id.

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        generate_salt,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use secrecy::SecretString;

use crate::domain::{
    error::Error,
    passwords::{imported::Cost, password::Password},
};

/// Length of a hash, in bytes.
const OUTPUT_LEN: usize = 32;

/// Result of the verification of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The password was wrong.
    Wrong,
    /// The password was right.
    Right,
    /// The password was right, but its hash does not have the current parameters, or was imported.
    RightButOutdated,
}

/// Verifies a password against one of our hashes. Returns its cost as well.
pub(super) fn verify_own(
    ours: &Argon2<'_>,
    hash: &str,
    password: &Password,
    memory: &mut Vec<Block>,
) -> Result<(Verdict, Cost), argon2::password_hash::Error> {
    let stored = PasswordHash::new(hash)?;
    let params = Params::try_from(&stored)?;
    let (Some(salt), Some(output)) = (stored.salt, stored.hash) else {
        return Err(argon2::password_hash::Error::EncodingInvalid);
    };
    let cost = cost_of(&params);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    // The comparison takes constant time.
    let verdict = if digest(&argon2, password, &salt, output.len(), memory)? != output {
        Verdict::Wrong
    } else if cost == cost_of(ours.params()) {
        Verdict::Right
    } else {
        Verdict::RightButOutdated
    };
    Ok((verdict, cost))
}

pub(super) fn cost_of(params: &Params) -> Cost {
    Cost::Argon2 {
        memory_kib: params.m_cost(),
        passes: params.t_cost(),
        lanes: params.p_cost(),
    }
}

/// Hashes a password with a new salt.
pub(super) fn new_hash(
    argon2: &Argon2<'_>,
    password: &Password,
    memory: &mut Vec<Block>,
) -> Result<SecretString, argon2::password_hash::Error> {
    let salt = generate_salt();
    let output = digest(argon2, password, &salt, OUTPUT_LEN, memory)?;
    phc(argon2, &salt, output).map(SecretString::from)
}

/// Computes a hash, in memory that is kept for the next one.
fn digest(
    argon2: &Argon2<'_>,
    password: &Password,
    salt: &[u8],
    len: usize,
    memory: &mut Vec<Block>,
) -> Result<Output, argon2::password_hash::Error> {
    let blocks = argon2.params().block_count();
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    let mut output = [0; Output::MAX_LENGTH];
    let output = output.get_mut(..len).ok_or(argon2::password_hash::Error::OutputSize)?;
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, &mut memory[..blocks])?;
    Ok(Output::new(output)?)
}

/// Returns the PHC string of a hash.
fn phc(argon2: &Argon2<'_>, salt: &[u8], output: Output) -> Result<String, argon2::password_hash::Error> {
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(argon2.params())?,
        salt: Some(Salt::new(salt)?),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

/// Returns a PHC string for which nobody knows a password: its hash is random.
pub(super) fn dummy(argon2: &Argon2<'_>) -> Result<String, argon2::password_hash::Error> {
    let mut output = [0; OUTPUT_LEN];
    rand::fill(&mut output[..]);
    phc(argon2, &generate_salt(), Output::new(&output)?)
}

pub(super) fn internal(error: argon2::password_hash::Error) -> Error {
    Error::Internal(format!("argon2: {error}"))
}
