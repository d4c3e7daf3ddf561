//! Tokens of challenges.

use secrecy::SecretString;

use crate::{
    domain::keys::{
        mac_keys::MacKeys,
        secret::{Purpose, ServerSecrets},
    },
    ids::ChallengeId,
};

const VERSION: &str = "c1";

/// Makes and reads the tokens of challenges: `c1.<challenge id>.<HMAC>`.
#[derive(Clone, Debug)]
pub(crate) struct ChallengeTokens {
    keys: MacKeys,
}

impl ChallengeTokens {
    pub(crate) fn new(secrets: &ServerSecrets) -> Self {
        Self {
            keys: MacKeys::new(secrets, Purpose::LoginChallenges),
        }
    }

    pub(super) fn make(&self, id: ChallengeId) -> SecretString {
        self.keys.seal(&format!("{VERSION}.{id}"))
    }

    /// Returns the challenge for which we made the token.
    pub(super) fn open(&self, token: &str) -> Option<ChallengeId> {
        let (version, id) = self.keys.open(token)?.split_once('.')?;
        (version == VERSION).then(|| id.parse().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn only_tokens_that_we_made_are_read() {
        let tokens = ChallengeTokens::new(&ServerSecrets::generate().expose_secret().parse().expect("secrets"));
        let others = ChallengeTokens::new(&ServerSecrets::generate().expose_secret().parse().expect("secrets"));
        let id = ChallengeId::generate();
        let token = tokens.make(id);
        let token = token.expose_secret();
        assert_eq!(tokens.open(token), Some(id));
        assert_eq!(others.open(token), None);
        for altered in [
            "",
            "c1",
            &token[1..],
            &token.replace("c1.", "c2."),
            &format!("{token}A"),
        ] {
            assert_eq!(tokens.open(altered), None, "{altered}");
        }
    }
}
