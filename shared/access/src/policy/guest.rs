//! Guests: users without a password and an e-mail address of their own.

/// Reserved role of guests. Access tokens of other users do not carry it.
pub const GUEST: &str = "guest";

/// Prefix of the logins of guests, in lower case. Nobody else can take a login with it.
pub const GUEST_LOGIN_PREFIX: &str = "guest-";

/// Characters that follow the prefix. None of them looks like another one.
pub const GUEST_LOGIN_ALPHABET: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";

/// Number of characters that follow the prefix: 80 bits.
pub const GUEST_LOGIN_RANDOM_LEN: usize = 16;

/// Returns whether auth-service generated this login for a guest. Users from before there were
/// guests may have other logins with the same prefix.
pub fn is_guest_login(login: &str) -> bool {
    login.strip_prefix(GUEST_LOGIN_PREFIX).is_some_and(|random| {
        random.len() == GUEST_LOGIN_RANDOM_LEN && random.bytes().all(|byte| GUEST_LOGIN_ALPHABET.contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_logins_are_told_from_chosen_ones() {
        for (login, expected) in [
            ("guest-2345678923456789", true),
            ("guest-abcdefghijkmnpqz", true),
            ("guest-abcdefghijkmnpq", false),
            ("guest-abcdefghijklmnpq", false),
            ("Guest-2345678923456789", false),
            ("guest-of-honour", false),
            ("guest-", false),
            ("guest", false),
            ("", false),
        ] {
            assert_eq!(is_guest_login(login), expected, "{login}");
        }
    }
}
