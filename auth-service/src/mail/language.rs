//! Languages of mails: BCP 47 tags, and the choice of the best available one.

use std::str::FromStr;

use fluent_langneg::{LanguageIdentifier, NegotiationStrategy, negotiate_languages, parse_accepted_languages};

/// Maximum size of a tag, in bytes (RFC 5646, section 4.4.1).
const MAX_TAG_BYTES: usize = 35;
/// Maximum size of the header `accept-language` that is read, in bytes.
const MAX_HEADER_BYTES: usize = 1024;

/// A language tag in its canonical form, or empty if the language is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Locale(String);

/// The error for a text that is not a language tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a BCP 47 language tag such as en or pt-BR")]
pub(crate) struct InvalidLocale;

impl Locale {
    /// Returns the first language of the header `accept-language` (RFC 9110, section 12.5.4), which
    /// browsers sort by preference. It is empty if the header has none.
    pub(crate) fn accepted(header: &str) -> Self {
        if header.len() > MAX_HEADER_BYTES {
            return Self::default();
        }
        let first = parse_accepted_languages(header).into_iter().next();
        first.and_then(|tag| tag.to_string().parse().ok()).unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Locale {
    type Err = InvalidLocale;

    fn from_str(text: &str) -> Result<Self, InvalidLocale> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > MAX_TAG_BYTES {
            return Err(InvalidLocale);
        }
        let tag = LanguageIdentifier::try_from_bytes(text.as_bytes()).map_err(|_| InvalidLocale)?;
        Ok(Self(tag.to_string()))
    }
}

/// Returns the available language that suits the requested one best, or `default` if none does.
pub(super) fn best<'a>(
    requested: &str,
    available: &'a [LanguageIdentifier],
    default: &'a LanguageIdentifier,
) -> &'a LanguageIdentifier {
    let Ok(requested) = LanguageIdentifier::try_from_bytes(requested.as_bytes()) else {
        return default;
    };
    let requested = [requested];
    let chosen = negotiate_languages(&requested, available, Some(default), NegotiationStrategy::Lookup);
    chosen.first().copied().unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &[&str]) -> Vec<LanguageIdentifier> {
        texts.iter().map(|text| text.parse().expect("a tag")).collect()
    }

    #[test]
    fn tags_become_canonical() {
        for (text, tag) in [
            ("", ""),
            ("EN", "en"),
            ("pt-br", "pt-BR"),
            (" ru ", "ru"),
            ("zh-hant-TW", "zh-Hant-TW"),
        ] {
            assert_eq!(text.parse::<Locale>().expect(text).as_str(), tag);
        }
        for text in [
            "e",
            "not a tag",
            "en_\u{e9}",
            "en\r\nBcc: x@example.com",
            &"en-".repeat(20),
        ] {
            assert_eq!(text.parse::<Locale>(), Err(InvalidLocale), "{text:?}");
        }
    }

    #[test]
    fn the_first_accepted_language_is_taken() {
        for (header, tag) in [
            ("ru-RU,ru;q=0.9,en;q=0.8", "ru-RU"),
            ("de", "de"),
            ("*", ""),
            ("", ""),
            ("!!", ""),
            (&"en,".repeat(1000), ""),
        ] {
            assert_eq!(Locale::accepted(header).as_str(), tag, "{header}");
        }
    }

    #[test]
    fn the_closest_available_language_is_chosen() {
        let available = tags(&["en", "ru", "pt-BR"]);
        for (requested, chosen) in [
            ("ru-RU", "ru"),
            ("ru", "ru"),
            ("en-GB", "en"),
            ("pt", "pt-BR"),
            ("de", "en"),
            ("", "en"),
            ("nonsense tag", "en"),
        ] {
            assert_eq!(
                best(requested, &available, &available[0]).to_string(),
                chosen,
                "{requested}"
            );
        }
    }
}
