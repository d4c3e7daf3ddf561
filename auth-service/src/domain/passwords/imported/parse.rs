//! The text forms of imported hashes: as Django stores them, as PHC strings, as passlib writes
//! them, and those of bcrypt.

use argon2::{Algorithm, Params, Version};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{
    ARGON2, BCRYPT_OUTPUT, ImportedHash, Method,
    cost::{Digest, HashLimits, InvalidHash},
};

/// Other implementations leave out the padding, or fill its bits.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, LENIENT);

/// Maximum size of a hash as a text, in bytes.
const MAX_LEN: usize = 512;
/// Smallest and largest size of a salt, in bytes.
const SALT: std::ops::RangeInclusive<usize> = 8..=64;
/// Smallest and largest size of an output, in bytes. With fewer than 16, other passwords match.
const OUTPUT: std::ops::RangeInclusive<usize> = 16..=64;

const KINDS: &str = "must be a hash of pbkdf2, bcrypt, scrypt or argon2 in a form that the documentation lists";

impl ImportedHash {
    /// Reads a hash in any of the forms. Refuses one that costs more than these limits.
    pub(in crate::domain) fn parse(text: &str, limits: HashLimits) -> Result<Self, InvalidHash> {
        if text.len() > MAX_LEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidHash(KINDS.into()));
        }
        let (kind, parsed) = parse(text).ok_or_else(|| InvalidHash(KINDS.into()))?;
        let parsed = parsed.ok_or_else(|| InvalidHash(format!("is not a complete hash of {kind}").into()))?;
        parsed.cost().ensure_within(limits)?;
        if let Method::Argon2 {
            memory_kib,
            passes,
            lanes,
            ..
        } = parsed.method
        {
            // The last check, since it is about how the parameters fit together.
            Params::new(memory_kib, passes, lanes, None)
                .map_err(|_| InvalidHash("has parameters that argon2 does not allow".into()))?;
        }
        Ok(parsed)
    }
}

/// Returns the kind of the hash by its beginning, and the hash itself if it is complete.
fn parse(text: &str) -> Option<(&'static str, Option<ImportedHash>)> {
    let Some(rest) = text.strip_prefix('$') else {
        let (kind, rest) = text.split_once('$')?;
        return parse_django(kind, rest);
    };
    let (kind, rest) = rest.split_once('$')?;
    Some(match kind {
        "2a" | "2b" | "2y" => ("bcrypt", bcrypt(rest, false)),
        "scrypt" => ("scrypt", scrypt_phc(rest)),
        "pbkdf2" => ("pbkdf2", pbkdf2(Digest::Sha1, rest)),
        "pbkdf2-sha256" => ("pbkdf2-sha256", pbkdf2(Digest::Sha256, rest)),
        "pbkdf2-sha512" => ("pbkdf2-sha512", pbkdf2(Digest::Sha512, rest)),
        "argon2i" | "argon2d" | "argon2id" => ("argon2", argon2(&text[1..])),
        _ => return None,
    })
}

fn parse_django(kind: &str, rest: &str) -> Option<(&'static str, Option<ImportedHash>)> {
    let bcrypt_of = |is_prehashed| {
        let hash = rest.strip_prefix('$')?;
        let (version, hash) = hash.split_once('$')?;
        bcrypt(["2a", "2b", "2y"].contains(&version).then_some(hash)?, is_prehashed)
    };
    Some(match kind {
        "pbkdf2_sha256" => ("pbkdf2_sha256", pbkdf2_django(Digest::Sha256, rest)),
        "pbkdf2_sha1" => ("pbkdf2_sha1", pbkdf2_django(Digest::Sha1, rest)),
        "bcrypt_sha256" => ("bcrypt_sha256", bcrypt_of(true)),
        "bcrypt" => ("bcrypt", bcrypt_of(false)),
        "scrypt" => ("scrypt", scrypt_django(rest)),
        ARGON2 => ("argon2", argon2(rest)),
        _ => return None,
    })
}

/// Reads `<iterations>$<salt>$<hash>` with a salt that is text.
fn pbkdf2_django(digest: Digest, text: &str) -> Option<ImportedHash> {
    let [iterations, salt, output] = parts(text)?;
    hash(
        Method::Pbkdf2 {
            digest,
            iterations: positive(iterations)?,
        },
        salt.as_bytes().to_vec(),
        decode(output)?,
    )
    .filter(|hash| hash.output.len() <= digest.len())
}

/// Reads `i=<iterations>,l=<length>$<salt>$<hash>`, and the form of passlib, in which the
/// iterations stand alone and a point stands for a plus.
fn pbkdf2(digest: Digest, text: &str) -> Option<ImportedHash> {
    let [params, salt, output] = parts(text)?;
    let (iterations, len) = if params.contains('=') {
        let [iterations, len] = named(params, ["i", "l"])?;
        (iterations?, len)
    } else {
        (number(params)?, None)
    };
    let decode = |text: &str| decode(&text.replace('.', "+"));
    let output = decode(output)?;
    // A longer output would be computed in several rounds, and cost a multiple.
    let fits = output.len() <= digest.len() && len.is_none_or(|len| usize::try_from(len) == Ok(output.len()));
    let method = Method::Pbkdf2 {
        digest,
        iterations: (iterations > 0).then_some(iterations)?,
    };
    hash(method, decode(salt)?, fits.then_some(output)?)
}

/// Reads `<cost>$<salt and hash>`.
fn bcrypt(text: &str, is_prehashed: bool) -> Option<ImportedHash> {
    let [cost, encoded] = parts(text)?;
    if cost.len() != 2 || encoded.len() != 53 {
        return None;
    }
    let (salt, output) = encoded.split_at(22);
    let method = Method::Bcrypt {
        cost: positive(cost)?,
        is_prehashed,
    };
    let parsed = hash(
        method,
        BCRYPT_BASE64.decode(salt).ok()?,
        BCRYPT_BASE64.decode(output).ok()?,
    );
    parsed.filter(|hash| hash.salt.len() == 16 && hash.output.len() == BCRYPT_OUTPUT)
}

/// Reads `<N>$<salt>$<r>$<p>$<hash>` with a salt that is text.
fn scrypt_django(text: &str) -> Option<ImportedHash> {
    let [n, salt, r, p, output] = parts(text)?;
    let n = positive(n)?;
    let method = Method::Scrypt {
        log_n: u8::try_from(n.is_power_of_two().then(|| n.trailing_zeros())?).ok()?,
        r: positive(r)?,
        p: positive(p)?,
    };
    hash(method, salt.as_bytes().to_vec(), decode(output)?)
}

/// Reads `ln=<log2 N>,r=<r>,p=<p>$<salt>$<hash>`.
fn scrypt_phc(text: &str) -> Option<ImportedHash> {
    let [params, salt, output] = parts(text)?;
    let [log_n, r, p] = named(params, ["ln", "r", "p"])?;
    let method = Method::Scrypt {
        log_n: u8::try_from(log_n?.min(255)).ok()?,
        r: r.filter(|r| *r > 0)?,
        p: p.filter(|p| *p > 0)?,
    };
    hash(method, decode(salt)?, decode(output)?)
}

/// Reads `<variant>$v=<version>$m=<KiB>,t=<passes>,p=<lanes>$<salt>$<hash>`. Without a version it
/// is the first one.
fn argon2(text: &str) -> Option<ImportedHash> {
    let (variant, rest) = text.split_once('$')?;
    let algorithm: Algorithm = variant.parse().ok()?;
    let (version, rest) = match rest.strip_prefix("v=") {
        None => (Version::V0x10, rest),
        Some(rest) => {
            let (version, rest) = rest.split_once('$')?;
            (Version::try_from(number(version)?).ok()?, rest)
        }
    };
    let [params, salt, output] = parts(rest)?;
    let [memory_kib, passes, lanes] = named(params, ["m", "t", "p"])?;
    let method = Method::Argon2 {
        algorithm,
        version,
        memory_kib: memory_kib?,
        passes: passes.filter(|passes| *passes > 0)?,
        lanes: lanes.filter(|lanes| *lanes > 0)?,
    };
    hash(method, decode(salt)?, decode(output)?)
}

fn hash(method: Method, salt: Vec<u8>, output: Vec<u8>) -> Option<ImportedHash> {
    (SALT.contains(&salt.len()) && OUTPUT.contains(&output.len())).then_some(ImportedHash { method, salt, output })
}

/// Splits a text at each `$` into exactly this many parts.
fn parts<const N: usize>(text: &str) -> Option<[&str; N]> {
    let parts: Vec<&str> = text.split('$').collect();
    parts.try_into().ok()
}

/// Reads numbers by their names, such as `m=65536,t=2`. No name may be unknown or occur twice.
fn named<const N: usize>(text: &str, names: [&str; N]) -> Option<[Option<u32>; N]> {
    let mut values = [None; N];
    for pair in text.split(',') {
        let (name, value) = pair.split_once('=')?;
        let index = names.iter().position(|known| *known == name)?;
        if values[index].replace(number(value)?).is_some() {
            return None;
        }
    }
    Some(values)
}

/// Reads a number in decimal digits. One that is too large becomes the largest, which no limit
/// allows.
fn number(text: &str) -> Option<u32> {
    if text.is_empty() || text.len() > 20 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}

fn positive(text: &str) -> Option<u32> {
    number(text).filter(|number| *number > 0)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}
