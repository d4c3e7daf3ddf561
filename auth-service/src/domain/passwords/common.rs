//! Common passwords, which guessers try first (NIST SP 800-63B, section 3.1.1.2).
//!
//! The list is taken from the 20,000 most common passwords of a compilation by Royce Williams
//! (<https://gist.github.com/roycewilliams/226886fd01572964e1431ac8afc999ce>), as Django 5.2 ships
//! them (BSD-3-Clause, Copyright (c) Django Software Foundation and individual contributors). It
//! contains those of at least 8 characters, folded as [`fold`] does, and sorted.

use std::sync::LazyLock;

use crate::domain::users::names::fold;

static COMMON: LazyLock<Vec<&'static str>> = LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// Returns whether the password is a common one, in any case.
pub(in crate::domain) fn is_common(password: &str) -> bool {
    COMMON.binary_search(&fold(password).as_str()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_passwords_are_found_in_any_case() {
        for common in ["password1", "PassWord123", "\u{ff11}23456789", "iloveyou1", "12345678"] {
            assert!(is_common(common), "{common}");
        }
        for other in ["correct horse", "demo-password", "battery staple", "wrong horse"] {
            assert!(!is_common(other), "{other}");
        }
    }

    #[test]
    fn the_list_is_sorted_and_folded() {
        assert!(COMMON.is_sorted());
        assert!(COMMON.len() > 5000);
        let bad = COMMON
            .iter()
            .find(|line| line.chars().count() < 8 || fold(line) != **line);
        assert_eq!(bad, None);
    }
}
