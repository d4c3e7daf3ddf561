//! What users are called: login, e-mail address, names of persons.
//!
//! A login and an address are kept as given and compared folded: NFKC (UAX #15) and lower case, so that no two users
//! look the same. A login has no `@`, so none can equal an address.

use std::str::FromStr;

use email_address::{EmailAddress, Options};
use unicode_normalization::UnicodeNormalization as _;

/// Characters of a login, at most.
const MAX_LOGIN_LEN: usize = 32;
const MIN_LOGIN_LEN: usize = 3;
/// Characters of an e-mail address, at most (RFC 5321, section 4.5.3.1.3, less the brackets).
const MAX_EMAIL_LEN: usize = 254;
/// Characters of a name of a person, at most.
const MAX_PERSON_NAME_LEN: usize = 100;
/// Bytes of a character in UTF-8, at most. A text of more bytes than its characters can have is refused before it is folded: a character
/// may become 18 of them.
const MAX_CHAR_LEN: usize = 4;
/// Bytes of what may be folded: a password of 512 bytes may have become 18 times as many characters.
const MAX_FOLDED_BYTES: usize = 32 * 1024;
/// Bytes of a login or an e-mail address, at most.
pub(crate) const MAX_IDENTIFIER_BYTES: usize = MAX_EMAIL_LEN * MAX_CHAR_LEN;

/// A login: 3 to 32 of `A-Z a-z 0-9 _ . -`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    given: String,
    folded: String,
}

/// An e-mail address.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Email {
    given: String,
    folded: String,
}

/// A given, family or middle name; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PersonName(String);

/// The text is not such a name. The message completes "the field ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidName(&'static str);

impl FromStr for Login {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName("is required"));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(MIN_LOGIN_LEN..=MAX_LOGIN_LEN).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(InvalidName("must be 3 to 32 of the characters A-Z a-z 0-9 _ . -"));
        }
        Ok(Self {
            given: text.to_owned(),
            folded: fold(text),
        })
    }
}

impl FromStr for Email {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName("is required"));
        }
        let bad = InvalidName("must be an e-mail address of at most 254 characters");
        if text.len() > MAX_IDENTIFIER_BYTES {
            return Err(bad);
        }
        let folded = fold(text);
        let options = Options::default().without_display_text().without_domain_literal();
        // A quoted local part is another spelling of the same address.
        let harmless = |c: char| !c.is_control() && !c.is_whitespace() && !is_unseen(c) && c != '"';
        let short = text.chars().count() <= MAX_EMAIL_LEN && folded.chars().count() <= MAX_EMAIL_LEN;
        // The folded form is the one that counts; the given one may be spelled in ways that the grammar does not know.
        let valid = EmailAddress::parse_with_options(&folded, options).is_ok();
        if !short || !valid || !text.chars().all(harmless) {
            return Err(bad);
        }
        Ok(Self {
            given: text.to_owned(),
            folded,
        })
    }
}

impl FromStr for PersonName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let bad = InvalidName("must be at most 100 characters");
        if text.len() > MAX_PERSON_NAME_LEN * MAX_CHAR_LEN {
            return Err(bad);
        }
        let name: String = text.trim().nfc().collect();
        if name.chars().count() > MAX_PERSON_NAME_LEN {
            return Err(bad);
        }
        if name.chars().any(|c| c.is_control() || is_unseen(c)) {
            return Err(InvalidName(
                "must not contain control characters or characters that are not seen",
            ));
        }
        Ok(Self(name))
    }
}

impl Login {
    /// As given.
    pub(crate) fn as_str(&self) -> &str {
        &self.given
    }

    /// As compared.
    pub(crate) fn folded(&self) -> &str {
        &self.folded
    }
}

impl Email {
    /// As given.
    pub(crate) fn as_str(&self) -> &str {
        &self.given
    }

    /// As compared.
    pub(crate) fn folded(&self) -> &str {
        &self.folded
    }
}

impl std::fmt::Debug for Email {
    /// An address is personal: it does not belong in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Email(..)")
    }
}

impl PersonName {
    /// The name, without the space around it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that show nothing, or turn what follows around: fillers, marks of direction, tags, line separators (UAX #44,
/// `Default_Ignorable_Code_Point` and `Bidi_Control`; the joiners U+200C and U+200D, which names in some scripts need, aside).
const fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The form in which logins and addresses are compared.
pub(crate) fn fold(text: &str) -> String {
    debug_assert!(text.len() <= MAX_FOLDED_BYTES, "a text is checked before it is folded");
    // Lower case may bring forth what NFKC would change again, hence twice.
    text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_checked() {
        for good in ["abc", "A.b-c_9", &"x".repeat(32)] {
            assert!(good.parse::<Login>().is_ok(), "{good}");
        }
        for bad in ["", "ab", "a b", "a@b", "äbc", "abc\0", &"x".repeat(33)] {
            assert!(bad.parse::<Login>().is_err(), "{bad:?}");
        }
        assert_eq!("AbC".parse::<Login>().expect("good").folded(), "abc");
    }

    #[test]
    fn addresses_are_checked() {
        for good in [
            "a@b.example",
            "admin@localhost",
            "Zoë@exämple.test",
            &format!("{}@{}.example", "a".repeat(60), "b".repeat(60)),
        ] {
            assert!(good.parse::<Email>().is_ok(), "{good}");
        }
        let long = format!("{}@{}.example", "a".repeat(64), "b.".repeat(100));
        for bad in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a@@b",
            "a b@c",
            "a@b c",
            "A <a@b>",
            "a@[127.0.0.1]",
            "a\0@b",
            "a@b\n",
            "bo\u{3164}ss@b.test",
            "\"a\"@b.test",
            &long,
        ] {
            assert!(bad.parse::<Email>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_that_look_the_same_are_the_same() {
        let folded = |text: &str| text.parse::<Email>().expect("good").folded().to_owned();
        assert_eq!(folded("Ann@Example.TEST"), folded("ann@example.test"));
        // Composed and decomposed, full width and narrow.
        assert_eq!(folded("zo\u{eb}@b.test"), folded("zoe\u{308}@b.test"));
        assert_eq!(folded("\u{ff41}nn@b.test"), folded("ann@b.test"));
    }

    #[test]
    fn names_of_persons_are_trimmed() {
        assert_eq!("  Ann ".parse::<PersonName>().expect("good").as_str(), "Ann");
        for bad in ["a\nb", "a\u{202e}b", "\u{200b}", "a\u{2028}b", "\u{e0041}"] {
            assert!(bad.parse::<PersonName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(101).parse::<PersonName>().is_err());
    }
}
