//! Costs of imported hashes: their limits, and their text form.
//!
//! The upper limits bound the processor time and the memory that one login can cost. The lower ones
//! keep out hashes that guessers try by the million: whoever has them finds most passwords, so
//! their users have to choose new ones.

use std::{borrow::Cow, fmt, str::FromStr};

/// Upper limits that no flag can raise.
const MAX_ITERATIONS: u32 = 2_000_000;
const MAX_BCRYPT_COST: u32 = 14;
const MAX_SCRYPT_BYTES: u64 = 64 * 1024 * 1024;
/// Maximum work of scrypt, as its memory times its parallelization (p).
const MAX_SCRYPT_WORK: u64 = 4 * MAX_SCRYPT_BYTES;
/// Highest memory that scrypt takes beside [`MAX_SCRYPT_BYTES`], in bytes. Common parameters take
/// less than 20 KiB.
const MAX_SCRYPT_BLOCKS: u64 = 1024 * 1024;
const MAX_ARGON2_PASSES: u32 = 10;
/// Lower limits. Django before 1.7 used 12,000 iterations of PBKDF2.
const MIN_ITERATIONS: u32 = 10_000;
const MIN_BCRYPT_COST: u32 = 8;
const MIN_SCRYPT_BYTES: u64 = 4 * 1024 * 1024;
const MIN_ARGON2_MEMORY_KIB: u32 = 512;

/// The cost of a hash. Hashes of the same cost take the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::domain) enum Cost {
    Pbkdf2 { digest: Digest, iterations: u32 },
    Bcrypt { cost: u32 },
    Scrypt { log_n: u8, r: u32, p: u32 },
    Argon2 { memory_kib: u32, passes: u32, lanes: u32 },
}

/// Hash function of PBKDF2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::domain) enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

/// Upper limits of argon2, which an operator can raise for an import.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashLimits {
    /// Maximum memory (m), in KiB.
    pub(crate) argon2_memory_kib: u32,
    /// Maximum number of lanes (p).
    pub(crate) argon2_lanes: u32,
}

/// The error for a text that is not an acceptable hash. The message completes "the field ...", and
/// never quotes the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidHash(pub(super) Cow<'static, str>);

impl HashLimits {
    /// Limits of an import without flags.
    pub(crate) const DEFAULT: Self = Self {
        argon2_memory_kib: 65_536,
        argon2_lanes: 4,
    };
    /// Limits that no flag can exceed, and that apply to stored hashes.
    pub(crate) const HIGHEST: Self = Self {
        argon2_memory_kib: 131_072,
        argon2_lanes: 16,
    };
}

impl Digest {
    /// Size of a digest, in bytes.
    pub(super) const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "pbkdf2-sha1",
            Self::Sha256 => "pbkdf2-sha256",
            Self::Sha512 => "pbkdf2-sha512",
        }
    }
}

impl Cost {
    /// Refuses a cost above these limits.
    pub(super) fn ensure_within(self, limits: HashLimits) -> Result<(), InvalidHash> {
        match self {
            Self::Pbkdf2 { iterations, .. } => at_most("PBKDF2 iterations", iterations, MAX_ITERATIONS),
            Self::Bcrypt { cost } => at_most("as the cost of bcrypt", cost, MAX_BCRYPT_COST),
            Self::Scrypt { log_n, r, p } => {
                let memory = scrypt_bytes(log_n, r);
                at_most("bytes of scrypt memory", memory, MAX_SCRYPT_BYTES)?;
                let blocks = 128 * u64::from(r) * (u64::from(p) + 1);
                at_most("bytes of scrypt blocks (128 r (p + 1))", blocks, MAX_SCRYPT_BLOCKS)?;
                let work = memory.saturating_mul(p.into());
                at_most("bytes of scrypt memory times p", work, MAX_SCRYPT_WORK)
            }
            Self::Argon2 {
                memory_kib,
                passes,
                lanes,
            } => {
                at_most("KiB of argon2 memory (m)", memory_kib, limits.argon2_memory_kib)?;
                at_most("argon2 passes (t)", passes, MAX_ARGON2_PASSES)?;
                at_most("argon2 lanes (p)", lanes, limits.argon2_lanes)
            }
        }
    }

    /// Refuses a cost so low that most passwords are found from their hashes.
    pub(super) fn ensure_strong_enough(self) -> Result<(), InvalidHash> {
        match self {
            Self::Pbkdf2 { iterations, .. } => at_least("PBKDF2 iterations", iterations, MIN_ITERATIONS),
            Self::Bcrypt { cost } => at_least("as the cost of bcrypt", cost, MIN_BCRYPT_COST),
            Self::Scrypt { log_n, r, .. } => {
                at_least("bytes of scrypt memory", scrypt_bytes(log_n, r), MIN_SCRYPT_BYTES)
            }
            Self::Argon2 { memory_kib, .. } => at_least("KiB of argon2 memory (m)", memory_kib, MIN_ARGON2_MEMORY_KIB),
        }
    }

    /// Returns a name for the costs that [`work`](Self::work) compares.
    pub(in crate::domain) const fn family(self) -> &'static str {
        match self {
            Self::Pbkdf2 { digest, .. } => digest.name(),
            Self::Bcrypt { .. } => "bcrypt",
            Self::Scrypt { .. } => "scrypt",
            Self::Argon2 { .. } => "argon2",
        }
    }

    /// Returns a number that is proportional to the time that hashes of one family take.
    pub(in crate::domain) fn work(self) -> u64 {
        match self {
            Self::Pbkdf2 { iterations, .. } => iterations.into(),
            Self::Bcrypt { cost } => 1 << cost.min(63),
            Self::Scrypt { log_n, r, p } => scrypt_bytes(log_n, r).saturating_mul(p.into()),
            Self::Argon2 { memory_kib, passes, .. } => u64::from(memory_kib) * u64::from(passes),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.family())?;
        match self {
            Self::Pbkdf2 { iterations: cost, .. } | Self::Bcrypt { cost } => write!(f, "{cost}"),
            Self::Scrypt { log_n, r, p } => write!(f, "{log_n},{r},{p}"),
            Self::Argon2 {
                memory_kib,
                passes,
                lanes,
            } => write!(f, "{memory_kib},{passes},{lanes}"),
        }
    }
}

impl FromStr for Cost {
    type Err = InvalidHash;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let unknown = || InvalidHash("is not a cost".into());
        let (family, numbers) = text.split_once(':').ok_or_else(unknown)?;
        let numbers: Vec<u32> = numbers
            .split(',')
            .map(|number| number.parse().map_err(|_| unknown()))
            .collect::<Result<_, _>>()?;
        let digest = [Digest::Sha1, Digest::Sha256, Digest::Sha512]
            .into_iter()
            .find(|digest| digest.name() == family);
        let cost = match (family, digest, numbers.as_slice()) {
            (_, Some(digest), [iterations]) => Self::Pbkdf2 {
                digest,
                iterations: *iterations,
            },
            ("bcrypt", _, [cost]) => Self::Bcrypt { cost: *cost },
            ("scrypt", _, [log_n, r, p]) => Self::Scrypt {
                log_n: u8::try_from(*log_n).map_err(|_| unknown())?,
                r: *r,
                p: *p,
            },
            ("argon2", _, [memory_kib, passes, lanes]) => Self::Argon2 {
                memory_kib: *memory_kib,
                passes: *passes,
                lanes: *lanes,
            },
            _ => return Err(unknown()),
        };
        cost.ensure_within(HashLimits::HIGHEST)?;
        Ok(cost)
    }
}

/// Returns the memory of scrypt: 128 N r bytes.
fn scrypt_bytes(log_n: u8, r: u32) -> u64 {
    let n = 1_u64.checked_shl(log_n.into()).unwrap_or(u64::MAX);
    n.saturating_mul(128).saturating_mul(r.into())
}

fn at_most<N: Into<u64>>(what: &str, value: N, max: N) -> Result<(), InvalidHash> {
    let (value, max) = (value.into(), max.into());
    if value <= max {
        return Ok(());
    }
    Err(InvalidHash(
        format!("has {value} {what}, and at most {max} are accepted").into(),
    ))
}

fn at_least<N: Into<u64>>(what: &str, value: N, min: N) -> Result<(), InvalidHash> {
    let (value, min) = (value.into(), min.into());
    if value >= min {
        return Ok(());
    }
    let text = format!(
        "is too weak: it has {value} {what}, and at least {min} are required; import the user without a password"
    );
    Err(InvalidHash(text.into()))
}
