//! Names of users: login, e-mail address, names of persons.
//!
//! A login and an address are kept as given, and compared by a key in which every spelling is the
//! same. The key of a login and of the local part of an address is their text [folded](fold). The
//! key of a domain is the name that the DNS is asked for: its A-labels by UTS #46,
//! non-transitional. A domain is never folded first: `faß.de` is not `fass.de`. A login has no `@`,
//! so it never equals an address.

use std::{borrow::Cow, str::FromStr};

use access::policy::GUEST_LOGIN_PREFIX;
use base::{ids::UserId, validate::Fields};
use email_address::{EmailAddress, Options};
use icu_casemap::CaseMapper;
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization as _;

/// Maximum length of a login, in characters.
const MAX_LOGIN_LEN: usize = 32;
const MIN_LOGIN_LEN: usize = 3;
/// Maximum length of an e-mail address, in characters (RFC 5321, section 4.5.3.1.3, less the
/// brackets).
const MAX_EMAIL_LEN: usize = 254;
/// Maximum length of a name of a person, in characters.
const MAX_PERSON_NAME_LEN: usize = 100;
/// Maximum size of a character in UTF-8, in bytes. A text that is too long by its bytes alone is
/// refused before it is folded, because folding may turn one character into 18.
const MAX_CHAR_LEN: usize = 4;
/// Maximum size of a text to be folded, in bytes. A password of 512 bytes may have become 18 times
/// as many characters.
const MAX_FOLDED_BYTES: usize = 32 * 1024;
/// Maximum size of a login or an e-mail address, in bytes.
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
    key: String,
}

/// A given, family or middle name; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PersonName(String);

/// The error for a text that is not a valid name. The message completes "the field ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidName(&'static str);

impl FromStr for Login {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let text = text.trim();
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
        let bad = InvalidName("must be an e-mail address such as ann@example.com, of at most 254 characters");
        if text.len() > MAX_IDENTIFIER_BYTES {
            return Err(bad);
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidName("is required"));
        }
        let key = address_key(text).ok_or(bad)?;
        let options = Options::default().without_display_text().without_domain_literal();
        let harmless = |c: char| !c.is_control() && !c.is_whitespace() && !is_unseen(c);
        // A quoted local part is refused, because it is another spelling of the same address. The
        // key is checked, because folding turns other characters into quotes.
        let is_quoted = key.contains('"');
        let short = text.chars().count() <= MAX_EMAIL_LEN && key.chars().count() <= MAX_EMAIL_LEN;
        // Validates the key, because the grammar does not cover every spelling that the given text
        // may have.
        let valid = EmailAddress::parse_with_options(&key, options).is_ok();
        if !short || !valid || is_quoted || !text.chars().all(harmless) {
            return Err(bad);
        }
        Ok(Self {
            given: text.to_owned(),
            key,
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
                "must not contain control characters or invisible characters",
            ));
        }
        Ok(Self(name))
    }
}

impl Login {
    /// Returns whether the login has the prefix of the logins that are generated for guests. Users
    /// from before there were guests may have one.
    pub(crate) fn is_reserved(&self) -> bool {
        self.folded.starts_with(GUEST_LOGIN_PREFIX)
    }

    /// Returns the text as given, without the white space around it.
    pub(crate) fn as_str(&self) -> &str {
        &self.given
    }

    /// Returns the folded form, by which logins are compared.
    pub(crate) fn folded(&self) -> &str {
        &self.folded
    }
}

impl Email {
    /// Returns whether no mail can be sent to the address (RFC 6761, section 6.4). Guests have such
    /// addresses.
    pub(crate) fn is_reserved(&self) -> bool {
        is_unreachable(&self.key)
    }

    /// Returns the text as given, without the white space around it.
    pub(crate) fn as_str(&self) -> &str {
        &self.given
    }

    /// Returns the key, which is the same for every spelling of the address.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl std::fmt::Debug for Email {
    /// Hides the address, which is personal and does not belong in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Email(..)")
    }
}

impl PersonName {
    /// Returns the name, without the white space around it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the address that is stored for a guest, who has none.
pub(in crate::domain) fn guest_address(id: UserId) -> String {
    format!("{id}@guest.invalid")
}

/// Returns whether an address, given by its key or as mail servers take it, is in the domain
/// `invalid`, which does not exist.
pub(in crate::domain) fn is_unreachable(address: &str) -> bool {
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    domain
        .rsplit('.')
        .next()
        .is_some_and(|top| top.eq_ignore_ascii_case("invalid"))
}

/// Refuses a new login or a new address that is reserved for guests.
pub(crate) fn ensure_not_reserved(fields: &mut Fields, login: Option<&Login>, email: Option<&Email>) {
    if login.is_some_and(Login::is_reserved) {
        fields.reject("login", "must not begin with guest-");
    }
    if email.is_some_and(Email::is_reserved) {
        fields.reject("email", "must be an address that can receive mail");
    }
}

/// Returns whether a character is invisible or changes the direction of the text. These are
/// fillers, marks of direction, tags and line separators (UAX #44, `Default_Ignorable_Code_Point`
/// and `Bidi_Control`). The joiners U+200C and U+200D are left out, because names in some scripts
/// need them.
pub(crate) const fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns whether a character is an `@` or becomes one by NFKC.
const fn is_at(c: char) -> bool {
    matches!(c, '@' | '\u{fe6b}' | '\u{ff20}')
}

/// Folds a text, so that texts are equal if they differ only in case or in the Unicode form of
/// their characters.
///
/// This is a compatibility caseless match (Unicode Standard, definition D147) that also drops
/// invisible characters, much as `NFKC_Casefold` does: `ΝΊΚΟΣ` equals `νίκος`, and `STRASSE` equals
/// `straße`. Folding a folded text changes nothing.
pub(crate) fn fold(text: &str) -> String {
    debug_assert!(text.len() <= MAX_FOLDED_BYTES, "a text is checked before it is folded");
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let case = CaseMapper::new();
    let is_seen = |c: &char| !is_unseen(*c) && !matches!(c, '\u{200c}' | '\u{200d}');
    let plain: String = text.nfkd().filter(is_seen).collect();
    // Decomposing a folded text can produce capitals again, so it is folded twice.
    let folded: String = case.fold_string(&plain).nfkd().collect();
    case.fold_string(&folded).nfkc().collect()
}

/// Returns the key of the address or login that a user typed.
///
/// A text with an `@` and a domain that UTS #46 refuses is folded as a whole and put behind a
/// colon. No login and no address that can be registered begins with a colon. Without it, the text
/// could equal such an address, because folding removes joiners.
pub(crate) fn identifier_key(text: &str) -> String {
    address_key(text).unwrap_or_else(|| {
        let folded = fold(text);
        if text.contains(is_at) {
            format!(":{folded}")
        } else {
            folded
        }
    })
}

/// Returns the key of an address, or `None` if the text has no `@` or no valid domain after it.
fn address_key(text: &str) -> Option<String> {
    let (local, domain) = text.rsplit_once(is_at)?;
    Some(format!("{}@{}", fold(local), ascii_domain(domain)?))
}

/// Returns the domain in A-labels, or `None` if it is not valid.
fn ascii_domain(domain: &str) -> Option<String> {
    let ascii = Uts46::new().to_ascii(
        domain.as_bytes(),
        AsciiDenyList::STD3,
        // Host names often have hyphens in the third and fourth place.
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    ascii.ok().map(Cow::into_owned)
}

/// Returns the address as a mail server takes it: the local part as given, in NFC, and the domain
/// in A-labels.
pub(in crate::domain) fn mail_address(email: &str) -> String {
    let parts = email
        .rsplit_once(is_at)
        .and_then(|(local, domain)| Some((local, ascii_domain(domain)?)));
    parts.map_or_else(
        || email.to_owned(),
        |(local, domain)| {
            let local: String = local.nfc().collect();
            format!("{local}@{domain}")
        },
    )
}

/// Returns the folded forms in which a search finds an address: one with the domain in A-labels,
/// and one with it in U-labels if it has any.
pub(in crate::domain) fn searched_forms(email: &str) -> Vec<String> {
    let key = address_key(email).unwrap_or_else(|| fold(email));
    let readable = key.rsplit_once('@').and_then(|(local, domain)| {
        let (domain, valid) = Uts46::new().to_unicode(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
        valid.ok()?;
        Some(fold(&format!("{local}@{domain}")))
    });
    let readable = readable.filter(|readable| *readable != key);
    std::iter::once(key).chain(readable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> String {
        text.parse::<Email>().expect(text).key().to_owned()
    }

    #[test]
    fn logins_are_validated() {
        for good in ["abc", "A.b-c_9", &"x".repeat(32)] {
            assert!(good.parse::<Login>().is_ok(), "{good}");
        }
        for bad in ["", "ab", "a b", "a@b", "äbc", "abc\0", &"x".repeat(33)] {
            assert!(bad.parse::<Login>().is_err(), "{bad:?}");
        }
        assert_eq!("AbC".parse::<Login>().expect("good").folded(), "abc");
    }

    #[test]
    fn addresses_are_validated() {
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
            "a@b\nc",
            "bo\u{3164}ss@b.test",
            "\"a\"@b.test",
            "\u{ff02}a\u{ff02}@b.test",
            &long,
        ] {
            assert!(bad.parse::<Email>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn equivalent_spellings_of_an_address_have_the_same_key() {
        for (one, other) in [
            ("Ann@Example.TEST", "ann@example.test"),
            // Composed and decomposed, full width and narrow.
            ("zo\u{eb}@b.test", "zoe\u{308}@b.test"),
            ("\u{ff41}nn\u{ff20}b.test", "ann@b.test"),
            // A sigma at the end of a word, letters that become two, and an iota below that becomes
            // a letter of its own.
            ("νίκος@b.test", "ΝΊΚΟΣ@b.test"),
            ("straße@b.test", "STRASSE@b.test"),
            ("STRAẞE@b.test", "strasse@b.test"),
            ("ﬀ@b.test", "FF@b.test"),
            ("\u{1fb3}\u{301}@b.test", "\u{1fb4}@b.test"),
            ("\u{3b1}\u{345}\u{301}@b.test", "ΆΙ@b.test"),
            // A joiner is invisible.
            ("a\u{200d}b@b.test", "ab@b.test"),
            ("a@bücher.example", "a@xn--bcher-kva.example"),
            ("a@BU\u{308}CHER.Example", "a@XN--BCHER-KVA.example"),
            ("a@faß.de", "a@xn--fa-hia.de"),
            ("a@b\u{3002}test", "a@b.test"),
        ] {
            assert_eq!(key(one), key(other), "{one} {other}");
        }
    }

    #[test]
    fn domains_are_not_case_folded_before_they_are_encoded() {
        assert_ne!(key("a@faß.de"), key("a@fass.de"));
        assert_eq!(key("ẞ@FASS.de"), "ss@fass.de");
        assert_ne!(key("a@βόλος.example"), key("a@βόλοσ.example"));
    }

    #[test]
    fn domains_that_uts_46_refuses_are_invalid() {
        for domain in [
            "xn--a",
            "xn--\u{fc}",
            "xn--bcher-kva8a\u{301}",
            "a_b.test",
            "-a.test",
            "a..b",
            "b.test.",
            "a\u{2100}b.test",
            "b\u{200d}c.test",
            "x\u{2488}test",
        ] {
            let address = format!("a@{domain}");
            assert!(address.parse::<Email>().is_err(), "{domain}");
            assert_eq!(identifier_key(&address), format!(":{}", fold(&address)), "{domain}");
        }
        // Folding turns this text into an address.
        assert_eq!(fold("x@b\u{200d}c.test"), key("x@bc.test"));
        assert_ne!(identifier_key("x@b\u{200d}c.test"), key("x@bc.test"));
        assert!(":x@bc.test".parse::<Email>().is_err());
        assert!(":ann".parse::<Login>().is_err());
        assert!("a@r3---sn.test".parse::<Email>().is_ok());
    }

    #[test]
    fn mail_goes_to_the_domain_in_a_labels() {
        for (given, address) in [
            ("Ann@Example.test", "Ann@example.test"),
            ("zo\u{eb}@b\u{fc}cher.example", "zo\u{eb}@xn--bcher-kva.example"),
            ("ann\u{ff20}b.test", "ann@b.test"),
            ("zoe\u{308}@b.test", "zo\u{eb}@b.test"),
            ("a@b\u{3002}test", "a@b.test"),
        ] {
            assert_eq!(mail_address(given), address);
        }
    }

    #[test]
    fn white_space_around_a_name_is_trimmed() {
        let email: Email = "\t a@b.test\u{a0}\n".parse().expect("good");
        assert_eq!((email.as_str(), email.key()), ("a@b.test", "a@b.test"));
        let login: Login = " Ann\u{3000}".parse().expect("good");
        assert_eq!((login.as_str(), login.folded()), ("Ann", "ann"));
        assert_eq!(" \n".parse::<Email>(), Err(InvalidName("is required")));
        assert_eq!(" \n".parse::<Login>(), Err(InvalidName("is required")));
    }

    #[test]
    fn folding_is_idempotent() {
        let case = CaseMapper::new();
        let is_at_folded = |c: char| fold(&c.to_string()).contains('@');
        for c in '\0'..=char::MAX {
            let alone = c.to_string();
            let marked = format!("\u{3b1}{c}\u{345}\u{301}");
            let is_changed = fold(&alone) != alone;
            for text in std::iter::once(alone).chain(is_changed.then_some(marked)) {
                let folded = fold(&text);
                assert_eq!(fold(&folded), folded, "{text:?}");
                // Neither case nor form matters.
                let plain: String = text.nfkd().collect();
                for other in [case.fold_string(&plain).into_owned(), plain, text.nfc().collect()] {
                    assert_eq!(fold(&other), folded, "{text:?} {other:?}");
                }
            }
            assert_eq!(is_at(c), is_at_folded(c), "{c:?}");
        }
        for address in ["Νίκος@BÜCHER.example", "a@FAẞ.de", "ann", "ß@xn--bcher-kva.example"] {
            let key = identifier_key(address);
            assert_eq!(identifier_key(&key), key, "{address}");
        }
    }

    #[test]
    fn a_search_covers_both_spellings_of_a_domain() {
        assert_eq!(searched_forms("Ann@Example.test"), ["ann@example.test"]);
        for spelling in ["Straße@BÜCHER.example", "strasse@xn--bcher-kva.example"] {
            assert_eq!(
                searched_forms(spelling),
                ["strasse@xn--bcher-kva.example", "strasse@bücher.example"]
            );
        }
        assert_eq!(searched_forms("a@Faß.de"), ["a@xn--fa-hia.de", "a@fass.de"]);
        assert_eq!(searched_forms("a@b_C.test"), ["a@b_c.test"]);
        assert_eq!(searched_forms(""), [""]);
    }

    #[test]
    fn person_names_are_trimmed_and_validated() {
        assert_eq!("  Ann ".parse::<PersonName>().expect("good").as_str(), "Ann");
        for bad in ["a\nb", "a\u{202e}b", "\u{200b}", "a\u{2028}b", "\u{e0041}"] {
            assert!(bad.parse::<PersonName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(101).parse::<PersonName>().is_err());
    }
}
