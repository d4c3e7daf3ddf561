//! Users who come from an identity provider: their login and their address.

use access::policy::GUEST_LOGIN_ALPHABET;
use base::{clock::Timestamp, ids::UserId};
use db::Conn;
use secrecy::SecretString;

use crate::{
    domain::{
        error::Error,
        identities::proof::ProvenIdentity,
        users::{
            accounts::Accounts,
            names::{Email, Login},
            profile::{ensure_free, search_folded, taken},
        },
    },
    mail::Locale,
    model::{ReservedRole, User, generated_address},
    store::{self, NewUser},
};

/// Prefix of the logins that are generated. Users may choose others with it.
const LOGIN_PREFIX: &str = "player-";
/// Number of random characters of a generated login: 60 bits.
const LOGIN_RANDOM_LEN: usize = 12;

impl Accounts {
    /// Creates a user with the role `player`, without a password. The user gets the address of the
    /// identity, which counts as verified, or none. Fails if another user keeps that address.
    pub(super) async fn create_external_user(
        &self,
        tx: &mut Conn,
        proven: &ProvenIdentity,
        (login, locale): (Option<&Login>, &Locale),
        password_hash: &SecretString,
        now: Timestamp,
    ) -> Result<User, Error> {
        let id = UserId::generate();
        let generated = generated_login();
        let (login, login_folded) = login.map_or((&*generated, &*generated), |login| (login.as_str(), login.folded()));
        ensure_free(tx, None, Some(login_folded), None).await?;
        let key = proven.email.as_ref().map(|email| email.key().to_owned());
        let holders = self.lock_holders_first(tx, id, key.as_slice()).await?;
        let address = StoredAddress::of(id, proven.email.as_ref());
        let new = NewUser {
            id,
            login,
            login_folded,
            email: &address.email,
            email_folded: &address.folded,
            email_is_taken: address.is_taken,
            password_hash,
            first_name: "",
            last_name: "",
            middle_name: "",
            search_folded: &search_folded(login_folded, &address.email, ["", "", ""]),
            must_change_password: false,
            locale: locale.as_str(),
            min_password_expire_time: None,
            is_guest: false,
            create_time: now,
        };
        let user = store::user_insert(tx, &new).await.map_err(taken)?;
        store::user_role_insert(tx, id, ReservedRole::Player).await?;
        match &key {
            Some(key) => {
                self.claim_email(tx, &user, key, &holders).await.map_err(in_use)?;
                self.record_email_proof(tx, &user, now).await
            }
            None => Ok(user),
        }
    }
}

/// Address of a user as it is stored before they have claimed it.
pub(super) struct StoredAddress {
    pub(super) email: String,
    /// Key of the address.
    pub(super) folded: String,
    /// Whether the key is not that of the address yet, because the address must be claimed first.
    pub(super) is_taken: bool,
}

impl StoredAddress {
    /// Returns what is stored for a user with this address, or for one who has none.
    pub(super) fn of(id: UserId, email: Option<&Email>) -> Self {
        match email {
            Some(email) => Self {
                email: email.as_str().to_owned(),
                folded: store::taken_key(id),
                is_taken: true,
            },
            None => Self {
                email: generated_address(id),
                folded: generated_address(id),
                is_taken: false,
            },
        }
    }
}

/// Converts the error of a claim: another user keeps the address.
pub(super) fn in_use(error: Error) -> Error {
    match error {
        Error::UserAlreadyExists(_) => Error::IdentityEmailInUse,
        error => error,
    }
}

/// Returns a random login. Neither the name nor the address of the identity is in it, because other
/// players see it.
pub(super) fn generated_login() -> String {
    let random: [u8; LOGIN_RANDOM_LEN] = rand::random();
    let characters = random
        .iter()
        .map(|byte| char::from(GUEST_LOGIN_ALPHABET[usize::from(byte % 32)]));
    LOGIN_PREFIX.chars().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_login_is_one_that_a_user_could_choose() {
        for _ in 0..100 {
            let text = generated_login();
            let login: Login = text.parse().expect("a login");
            assert!(!login.is_reserved());
            assert_eq!(login.folded(), text);
        }
    }
}
