//! Public key as a JSON Web Key (RFC 7517) of type OKP (RFC 8037).

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, ParsedPublicKey},
};
use proto::auth;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::{ALGORITHM, KeyError, compact, header::MAX_KID_LEN};

pub(super) const KEY_TYPE: &str = "OKP";
pub(super) const CURVE: &str = "Ed25519";
pub(super) const USE: &str = "sig";

/// Ed25519 public key that is safe for verifying signatures, with its key id.
#[derive(Clone)]
pub struct Jwk {
    kid: String,
    public_key: [u8; 32],
    parsed: ParsedPublicKey,
}

impl Jwk {
    /// Creates the key with these bytes (RFC 8032, section 5.1.5). Its id is its RFC 7638
    /// thumbprint.
    ///
    /// # Errors
    ///
    /// Fails if the encoding is not canonical, or if the key is a point of small order, for which
    /// anyone can forge signatures. aws-lc and RFC 8032 itself accept both.
    pub fn from_public_key(public_key: &[u8; 32]) -> Result<Self, KeyError> {
        Self::named(thumbprint(public_key), public_key)
    }

    /// Creates the key with this id of 1 to 64 bytes, which another issuer may have chosen.
    pub(super) fn named(kid: String, public_key: &[u8; 32]) -> Result<Self, KeyError> {
        if !(1..=MAX_KID_LEN).contains(&kid.len()) {
            return Err(KeyError::BadKey("its kid must have 1 to 64 bytes"));
        }
        if !is_canonical(public_key) {
            return Err(KeyError::BadKey("its encoding is not canonical"));
        }
        if has_small_order(public_key) {
            return Err(KeyError::BadKey("it is a point of small order"));
        }
        let parsed =
            ParsedPublicKey::new(&ED25519, public_key).map_err(|_| KeyError::BadKey("it is not an Ed25519 key"))?;
        Ok(Self {
            kid,
            public_key: *public_key,
            parsed,
        })
    }

    /// Returns the key id, by which the header of a token refers to the key: 1 to 64 bytes.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the bytes of the key (RFC 8032, section 5.1.2).
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// Returns whether this key made the signature of the message. Only one form of a signature is
    /// accepted: S must be below the order of the group (RFC 8032, section 5.1.7).
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for Jwk {
    fn eq(&self, other: &Self) -> bool {
        self.kid == other.kid && self.public_key == other.public_key
    }
}

impl Eq for Jwk {}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwk").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Serialize for Jwk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut jwk = serializer.serialize_struct("Jwk", 6)?;
        jwk.serialize_field("kty", KEY_TYPE)?;
        jwk.serialize_field("crv", CURVE)?;
        jwk.serialize_field("x", &compact::encode(&self.public_key))?;
        jwk.serialize_field("kid", &self.kid)?;
        jwk.serialize_field("use", USE)?;
        jwk.serialize_field("alg", ALGORITHM)?;
        jwk.end()
    }
}

impl From<&Jwk> for auth::v1::Jwk {
    fn from(jwk: &Jwk) -> Self {
        Self {
            kty: KEY_TYPE.to_owned(),
            crv: CURVE.to_owned(),
            x: compact::encode(&jwk.public_key),
            kid: jwk.kid.clone(),
            r#use: USE.to_owned(),
            alg: ALGORITHM.to_owned(),
        }
    }
}

/// Returns the RFC 7638 thumbprint, with SHA-256. The input is the required members, sorted by
/// name, without white space.
fn thumbprint(public_key: &[u8; 32]) -> String {
    let x = compact::encode(public_key);
    let json = format!(r#"{{"crv":"{CURVE}","kty":"{KEY_TYPE}","x":"{x}"}}"#);
    compact::encode(digest(&SHA256, json.as_bytes()).as_ref())
}

/// Order of the field, 2^255 - 19, little-endian.
const FIELD_ORDER: [u8; 32] = {
    let mut order = [0xff; 32];
    order[0] = 0xed;
    order[31] = 0x7f;
    order
};

/// Coordinates y of the eight points whose order divides the cofactor, little-endian: 1 (order 1),
/// -1 (order 2), 0 (order 4), and the two of order 8. Each of the last three belongs to a pair of
/// points that differ in the sign of x.
const SMALL_ORDER: [[u8; 32]; 5] = [
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = FIELD_ORDER;
        minus_one[0] -= 1;
        minus_one
    },
    [0; 32],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Returns the y coordinate: all bits but the top one, which is the sign of x.
fn y(public_key: &[u8; 32]) -> [u8; 32] {
    let mut y = *public_key;
    y[31] &= 0x7f;
    y
}

/// Returns whether y is below the order of the field.
///
/// An encoding with x = 0 and the sign bit set is not canonical either. [`has_small_order`] refuses
/// it: both points with x = 0 are of small order.
fn is_canonical(public_key: &[u8; 32]) -> bool {
    y(public_key).iter().rev().lt(FIELD_ORDER.iter().rev())
}

fn has_small_order(public_key: &[u8; 32]) -> bool {
    SMALL_ORDER.contains(&y(public_key))
}
