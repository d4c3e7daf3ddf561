//! Codes that are mailed to users.
//!
//! A code is an HMAC of a random seed. The key is derived from the server secret, which is not in
//! the database, so a stolen database yields no code. A code has two forms: a short one to type,
//! and a long one that is part of a link. It is bound to its purpose, its user and the address that
//! it was sent to, so it becomes invalid if the address changes.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    constant_time,
    hmac::{self, HMAC_SHA256, Key},
    rand,
};
use base::ids::UserId;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    domain::keys::secret::{Purpose, ServerSecrets},
    model::CodePurpose,
};

/// Characters of a short code. None of them looks like another one.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// Number of characters of a short code: 40 bits.
const TYPED_LEN: usize = 8;
/// Number of bytes of the code in a link: 128 bits.
const LINKED_BYTES: usize = 16;
/// Number of characters of the code in a link.
const LINKED_LEN: usize = 22;
/// Number of bytes of a seed.
const SEED_BYTES: usize = 16;
/// Maximum size of a presented code, in bytes. Both forms are shorter.
const MAX_LEN: usize = 64;

/// Values that a code is bound to.
#[derive(Clone, Copy, Debug)]
pub(in crate::domain) struct Binding<'a> {
    pub(in crate::domain) purpose: CodePurpose,
    pub(in crate::domain) user_id: UserId,
    /// Key of the address that the code was sent to.
    pub(in crate::domain) address_key: &'a str,
    pub(in crate::domain) seed: &'a [u8],
}

/// A code that a caller presents.
#[derive(Clone)]
pub(crate) enum PresentedCode {
    /// The short form, without its hyphen and in capitals.
    Typed(SecretString),
    /// The form that is part of a link.
    Linked(SecretString),
}

/// The error for a text that cannot be a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the code from the mail, such as ABCD-EFGH")]
pub(crate) struct NotACode;

/// Makes and checks codes.
#[derive(Clone, Debug)]
pub(in crate::domain) struct AccountCodes {
    /// Keys, the current one first. There is at least one.
    keys: Vec<Key>,
}

impl AccountCodes {
    pub(in crate::domain) fn new(secrets: &ServerSecrets) -> Self {
        let keys = secrets.derive(Purpose::AccountCodes);
        Self {
            keys: keys.iter().map(|key| Key::new(HMAC_SHA256, key)).collect(),
        }
    }

    /// Returns a new random seed.
    pub(in crate::domain) fn seed() -> Vec<u8> {
        let mut seed = vec![0; SEED_BYTES];
        rand::fill(&mut seed).expect("the operating system gives random bytes");
        seed
    }

    /// Returns the short form, as a mail shows it.
    pub(in crate::domain) fn typed(&self, binding: Binding<'_>) -> SecretString {
        let code = typed(&self.keys[0], binding);
        let (first, second) = code.split_at(TYPED_LEN / 2);
        SecretString::from(format!("{first}-{second}"))
    }

    /// Returns the form that is part of a link.
    pub(in crate::domain) fn linked(&self, binding: Binding<'_>) -> SecretString {
        SecretString::from(linked(&self.keys[0], binding))
    }

    /// Returns whether this is the code, in constant time.
    pub(in crate::domain) fn is_right(&self, binding: Binding<'_>, presented: &PresentedCode) -> bool {
        let (make, presented): (fn(&Key, Binding<'_>) -> String, _) = match presented {
            PresentedCode::Typed(code) => (typed, code),
            PresentedCode::Linked(code) => (linked, code),
        };
        let presented = presented.expose_secret().as_bytes();
        self.keys.iter().fold(false, |found, key| {
            let code = make(key, binding);
            let is_equal = constant_time::verify_slices_are_equal(code.as_bytes(), presented).is_ok();
            found | is_equal
        })
    }
}

impl PresentedCode {
    /// Returns how many tries of the short form this counts as: 1 or 0.
    pub(in crate::domain) const fn typed_tries(&self) -> i64 {
        match self {
            Self::Typed(_) => 1,
            Self::Linked(_) => 0,
        }
    }
}

impl FromStr for PresentedCode {
    type Err = NotACode;

    fn from_str(text: &str) -> Result<Self, NotACode> {
        let text = text.trim();
        if text.len() > MAX_LEN {
            return Err(NotACode);
        }
        let is_linked = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if text.len() == LINKED_LEN && text.bytes().all(is_linked) {
            return Ok(Self::Linked(SecretString::from(text)));
        }
        let typed: String = text
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '-')
            .map(|c| c.to_ascii_uppercase())
            .collect();
        if typed.len() == TYPED_LEN && typed.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(Self::Typed(SecretString::from(typed)));
        }
        Err(NotACode)
    }
}

impl fmt::Debug for PresentedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedCode(..)")
    }
}

fn typed(key: &Key, binding: Binding<'_>) -> String {
    let mac = mac(key, "typed", binding);
    let digits = mac.as_ref()[..TYPED_LEN].iter();
    digits
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

fn linked(key: &Key, binding: Binding<'_>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(&mac(key, "linked", binding).as_ref()[..LINKED_BYTES])
}

/// Returns the MAC from which one form of the code is made. No part but the last has a variable
/// length, so no two bindings have the same bytes.
fn mac(key: &Key, form: &str, binding: Binding<'_>) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in [form, binding.purpose.as_str()] {
        context.update(part.as_bytes());
        context.update(b"\0");
    }
    context.update(binding.user_id.as_uuid().as_bytes());
    context.update(&u64::try_from(binding.seed.len()).unwrap_or(u64::MAX).to_be_bytes());
    context.update(binding.seed);
    context.update(binding.address_key.as_bytes());
    context.sign()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn codes(secrets: &str) -> AccountCodes {
        AccountCodes::new(&secrets.parse().expect("secrets"))
    }

    fn presented(text: &SecretString) -> PresentedCode {
        text.expose_secret().parse().expect("a code")
    }

    #[test]
    fn both_forms_are_right_however_they_are_typed() {
        let codes = codes(ServerSecrets::generate().expose_secret());
        let seed = AccountCodes::seed();
        let binding = Binding {
            purpose: CodePurpose::PasswordReset,
            user_id: UserId::generate(),
            address_key: "ann@example.com",
            seed: &seed,
        };
        let (typed, linked) = (codes.typed(binding), codes.linked(binding));
        assert!(codes.is_right(binding, &presented(&linked)));
        let text = typed.expose_secret();
        for spelling in [
            text.to_owned(),
            text.replace('-', ""),
            text.to_lowercase(),
            format!("  {}\n", text.replace('-', " - ")),
        ] {
            assert!(
                codes.is_right(binding, &spelling.parse().expect("a code")),
                "{spelling:?}"
            );
        }
        assert_eq!(format!("{:?}", presented(&typed)), "PresentedCode(..)");
    }

    #[test]
    fn a_code_is_bound_to_its_purpose_its_user_its_address_and_its_seed() {
        let codes = codes(ServerSecrets::generate().expose_secret());
        let (seed, other_seed) = (AccountCodes::seed(), AccountCodes::seed());
        let binding = Binding {
            purpose: CodePurpose::PasswordReset,
            user_id: UserId::generate(),
            address_key: "ann@example.com",
            seed: &seed,
        };
        for other in [
            Binding {
                purpose: CodePurpose::EmailVerification,
                ..binding
            },
            Binding {
                user_id: UserId::generate(),
                ..binding
            },
            Binding {
                address_key: "bob@example.com",
                ..binding
            },
            Binding {
                seed: &other_seed,
                ..binding
            },
        ] {
            for code in [codes.typed(binding), codes.linked(binding)] {
                assert!(!codes.is_right(other, &presented(&code)));
            }
        }
    }

    #[test]
    fn a_short_code_has_two_halves_and_any_character_of_the_alphabet() {
        let codes = codes(ServerSecrets::generate().expose_secret());
        let mut used = BTreeSet::new();
        for _ in 0..200 {
            let code = codes.typed(Binding {
                purpose: CodePurpose::PasswordReset,
                user_id: UserId::generate(),
                address_key: "ann@example.com",
                seed: &AccountCodes::seed(),
            });
            let (first, second) = code.expose_secret().split_once('-').expect("a hyphen");
            assert_eq!((first.len(), second.len()), (4, 4));
            used.extend([first, second].concat().into_bytes());
        }
        assert_eq!(used, BTreeSet::from(*ALPHABET));
    }

    #[test]
    fn a_code_survives_the_replacement_of_the_server_secret() {
        let (old, new) = (ServerSecrets::generate(), ServerSecrets::generate());
        let (before, after) = (
            codes(old.expose_secret()),
            codes(&format!("{}{}", new.expose_secret(), old.expose_secret())),
        );
        let seed = AccountCodes::seed();
        let binding = Binding {
            purpose: CodePurpose::PasswordReset,
            user_id: UserId::generate(),
            address_key: "ann@example.com",
            seed: &seed,
        };
        assert!(after.is_right(binding, &presented(&before.typed(binding))));
        assert!(!before.is_right(binding, &presented(&after.typed(binding))));
    }

    #[test]
    fn texts_that_cannot_be_codes_are_refused() {
        for text in [
            "",
            "ABCD",
            "ABCD-EFGHJ",
            "ABCD-EFG\u{e9}",
            "ÄBCDEFGH",
            &"A".repeat(65),
            &"A-".repeat(10_000),
            &format!("ABCDEFGH{}", "-".repeat(57)),
        ] {
            assert!(text.parse::<PresentedCode>().is_err(), "{text:?}");
        }
        let longest = format!("ABCDEFGH{}", "-".repeat(56));
        assert!(longest.parse::<PresentedCode>().is_ok(), "64 bytes");
        // Characters that no code has are a wrong code, not a malformed one.
        assert!("0OIL-0OIL".parse::<PresentedCode>().is_ok());
    }
}
