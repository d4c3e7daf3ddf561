//! Recovery codes: ten codes for users who have lost their second factor. Each is good once.
//!
//! Only the HMAC of a code is stored, under a key that is derived from the server secret.

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256, Key},
    rand,
};
use base::{clock::Timestamp, ids::UserId};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    domain::keys::secret::{Purpose, ServerSecrets},
    model::RecoveryCode,
};

/// Number of codes that a user gets at a time.
const COUNT: usize = 10;
/// Characters of a code. None of them looks like another one.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// Number of characters of a code: 80 bits.
const LEN: usize = 16;
/// Number of characters between two hyphens.
const GROUP: usize = 4;

/// Makes and checks recovery codes.
#[derive(Clone, Debug)]
pub(crate) struct RecoveryCodes {
    /// Keys, the current one first. There is at least one.
    keys: Vec<Key>,
}

impl RecoveryCodes {
    pub(crate) fn new(secrets: &ServerSecrets) -> Self {
        let keys = secrets.derive(Purpose::RecoveryCodes);
        Self {
            keys: keys.iter().map(|key| Key::new(HMAC_SHA256, key)).collect(),
        }
    }

    /// Returns new codes, as the user sees them, and the rows to store.
    pub(in crate::domain) fn generate(
        &self,
        user_id: UserId,
        now: Timestamp,
    ) -> (Vec<SecretString>, Vec<RecoveryCode>) {
        let code = || {
            let mut random = [0; LEN];
            rand::fill(&mut random).expect("the operating system gives random bytes");
            let code = random.map(|byte| ALPHABET[usize::from(byte % 32)]);
            let row = RecoveryCode {
                user_id,
                mac: mac(&self.keys[0], user_id, &code),
                create_time: now,
            };
            let groups: Vec<_> = code.chunks(GROUP).map(String::from_utf8_lossy).collect();
            (SecretString::from(groups.join("-")), row)
        };
        std::iter::repeat_with(code).take(COUNT).unzip()
    }

    /// Returns the HMACs that the stored code has if it is this one, one for each key. Ignores
    /// case, hyphens and blanks.
    pub(in crate::domain) fn macs(&self, user_id: UserId, presented: &SecretString) -> Vec<Vec<u8>> {
        let letters = presented.expose_secret().bytes();
        let code: Vec<u8> = letters
            .filter(u8::is_ascii_alphanumeric)
            .map(|byte| byte.to_ascii_uppercase())
            .collect();
        self.keys.iter().map(|key| mac(key, user_id, &code)).collect()
    }
}

fn mac(key: &Key, user_id: UserId, code: &[u8]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(key);
    context.update(user_id.as_uuid().as_bytes());
    context.update(code);
    context.sign().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_code_is_right_for_its_user_however_it_is_typed() {
        let (old, new) = (ServerSecrets::generate(), ServerSecrets::generate());
        let codes = RecoveryCodes::new(&old.expose_secret().parse().expect("secrets"));
        let both = format!("{}{}", new.expose_secret(), old.expose_secret());
        let after = RecoveryCodes::new(&both.parse().expect("secrets"));
        let (user, other) = (UserId::generate(), UserId::generate());
        let (shown, rows) = codes.generate(user, Timestamp::EPOCH);
        assert_eq!((shown.len(), rows.len()), (10, 10));
        let different: HashSet<_> = shown.iter().map(SecretString::expose_secret).collect();
        assert_eq!(different.len(), 10);
        let (code, row) = (shown[3].expose_secret(), &rows[3]);
        assert_eq!(code.len(), 19, "{code}");
        for typed in [
            code.to_owned(),
            code.to_lowercase(),
            code.replace('-', ""),
            format!(" {} ", code.replace('-', " ")),
        ] {
            let typed = SecretString::from(typed);
            assert!(codes.macs(user, &typed).contains(&row.mac));
            assert!(after.macs(user, &typed).contains(&row.mac));
            assert!(!codes.macs(other, &typed).contains(&row.mac));
        }
        let wrong = SecretString::from(code[..18].to_owned());
        assert!(!codes.macs(user, &wrong).contains(&row.mac));
    }
}
