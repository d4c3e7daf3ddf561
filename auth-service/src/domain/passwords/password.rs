//! Rules for passwords (NIST SP 800-63B, section 3.1.1): long enough, not a common one, and not the
//! login or address of its owner. There are no rules of composition, because they make passwords
//! worse.

use std::borrow::Cow;

use secrecy::{ExposeSecret as _, SecretString};
use unicode_normalization::UnicodeNormalization as _;

use crate::domain::{
    passwords::common::is_common,
    users::names::{Email, Login, identifier_key},
};

/// Smallest permitted minimum length of a new password, in code points after normalization.
/// [`MAX_LEN`] counts likewise.
pub(crate) const MIN_LEN: usize = 8;
const MAX_LEN: usize = 128;
/// Maximum size of a password as sent, in bytes. It bounds the work of normalization and hashing.
const MAX_BYTES: usize = 512;

/// A password as it is hashed: in NFKC, so that it is the same from every keyboard.
#[derive(Clone, Debug)]
pub(crate) struct Password {
    text: SecretString,
    /// The text as it was typed, if it differs.
    typed: Option<SecretString>,
}

/// The error for a text that cannot be a password. The message completes "the field ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidPassword(Cow<'static, str>);

/// Rules for a new password.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PasswordRules {
    /// Minimum length in code points, from [`MIN_LEN`] to 64.
    pub(crate) min_len: usize,
}

impl Default for PasswordRules {
    fn default() -> Self {
        Self { min_len: MIN_LEN }
    }
}

impl Password {
    /// Checks a password with which a user logs in. Any password that could have been set is
    /// accepted, whatever the present rules are.
    pub(crate) fn presented(text: &str) -> Result<Self, InvalidPassword> {
        if text.is_empty() {
            return Err(InvalidPassword("is required".into()));
        }
        if text.len() > MAX_BYTES {
            return Err(InvalidPassword("must be at most 512 bytes".into()));
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidPassword("must not contain control characters".into()));
        }
        let normal = text.nfkc().collect::<String>();
        Ok(Self {
            typed: (normal != text).then(|| SecretString::from(text)),
            text: SecretString::from(normal),
        })
    }

    /// Checks a password that is being set. It must also be long enough, and not a common one.
    pub(crate) fn chosen(text: &str, rules: PasswordRules) -> Result<Self, InvalidPassword> {
        let password = Self::presented(text)?;
        let len = password.text.expose_secret().chars().count();
        let min_len = rules.min_len;
        // The length is also checked before normalization, because one character can become many
        // that the user did not choose.
        if text.chars().count() < min_len || !(min_len..=MAX_LEN).contains(&len) {
            let text = format!("must be {min_len} to {MAX_LEN} characters");
            return Err(InvalidPassword(text.into()));
        }
        if is_common(password.text.expose_secret()) {
            return Err(InvalidPassword("must not be one of the most common passwords".into()));
        }
        Ok(password)
    }

    /// Returns whether the password is this login or address, in any spelling.
    pub(crate) fn is_login_or_email(&self, login: Option<&Login>, email: Option<&Email>) -> bool {
        let key = self.key();
        login.is_some_and(|login| login.folded() == key) || email.is_some_and(|email| email.key() == key)
    }

    /// Returns whether the password is a login or an address with one of these keys.
    pub(in crate::domain) fn is_one_of(&self, keys: &[String]) -> bool {
        keys.contains(&self.key())
    }

    /// Returns the key that the password would have as a login or an address, without the white
    /// space around it.
    fn key(&self) -> String {
        identifier_key(self.text.expose_secret().trim())
    }

    /// Returns whether both are the same password.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }

    pub(in crate::domain) fn as_bytes(&self) -> &[u8] {
        self.text.expose_secret().as_bytes()
    }

    /// Returns the password as it was typed, which is how systems hash it that do not normalize.
    pub(in crate::domain) fn as_typed(&self) -> &[u8] {
        let typed = self.typed.as_ref().unwrap_or(&self.text);
        typed.expose_secret().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters_and_limited_in_bytes() {
        for good in ["1234567é", "пароль-из-букв", &"x".repeat(128), &"字".repeat(128)] {
            assert!(Password::chosen(good, PasswordRules::default()).is_ok(), "{good}");
        }
        for bad in [
            "",
            "1234567",
            "12345678\0",
            "line\nbreaks",
            "\u{fdfa}",
            &"x".repeat(129),
            &"😀".repeat(129),
        ] {
            assert!(Password::chosen(bad, PasswordRules::default()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn composed_and_decomposed_passwords_are_equal() {
        let composed = Password::chosen("caf\u{e9}-caf\u{e9}", PasswordRules::default()).expect("good");
        let decomposed = Password::chosen("cafe\u{301}-cafe\u{301}", PasswordRules::default()).expect("good");
        assert_eq!(composed.as_bytes(), decomposed.as_bytes());
    }

    #[test]
    fn the_owners_login_and_address_are_recognized() {
        let (login, email) = (
            "Ann.Smith".parse().expect("good"),
            "ann@example.test".parse().expect("good"),
        );
        for (text, named) in [
            ("ANN.smith", true),
            ("Ann@Example.test", true),
            (" ann@example.test\u{a0}", true),
            ("ann.smith1", false),
        ] {
            assert_eq!(
                Password::chosen(text, PasswordRules::default())
                    .expect("good")
                    .is_login_or_email(Some(&login), Some(&email)),
                named,
                "{text}"
            );
        }
    }

    #[test]
    fn debug_output_hides_the_password() {
        assert!(
            !format!(
                "{:?}",
                Password::chosen("correct horse", PasswordRules::default()).expect("good")
            )
            .contains("horse")
        );
    }
}
