//! Registration of guests.

use access::policy::{GUEST_LOGIN_ALPHABET, GUEST_LOGIN_PREFIX, GUEST_LOGIN_RANDOM_LEN};
use base::ids::UserId;
use db::write_tx;
use secrecy::SecretString;

use crate::{
    domain::{
        audit::event::AuditEvent,
        counts,
        error::Error,
        feed,
        request_context::RequestContext,
        tokens::access::RequestedAudience,
        users::{
            accounts::Accounts,
            login::LoggedIn,
            names,
            profile::{search_folded, taken},
        },
    },
    mail::Locale,
    model::{AuthMethods, GuestCredential, ReservedRole},
    store::{self, NewUser},
};

/// A guest with a session.
#[derive(Debug)]
pub(crate) struct NewGuest {
    pub(crate) logged_in: LoggedIn,
    /// Credential with which the guest logs in again.
    pub(crate) credential: SecretString,
}

impl Accounts {
    /// Creates a user with the role `guest`, and logs them in.
    pub(crate) async fn register_guest(
        &self,
        context: &RequestContext,
        locale: &Locale,
        audience: &RequestedAudience,
    ) -> Result<NewGuest, Error> {
        self.attempts.admit_guest(context)?;
        if !self.registration_open {
            return Err(Error::RegistrationClosed);
        }
        if !self.guests.is_open {
            return Err(Error::GuestsNotAdmitted);
        }
        let sessions = self.sessions.for_audience(audience).await?;
        let id = UserId::generate();
        let (credential, mac) = self.guests.credentials.generate(id);
        let (login, email) = (generated_login(), names::guest_address(id));
        let password_hash = self.hashing.unusable()?;
        let registered: Result<LoggedIn, Error> = write_tx!(self.db, |tx| {
            let now = self.clock.now();
            let new = NewUser {
                id,
                login: &login,
                login_folded: &login,
                email: &email,
                email_folded: &email,
                password_hash: &password_hash,
                first_name: "",
                last_name: "",
                middle_name: "",
                search_folded: &search_folded(&login, &email, ["", "", ""]),
                must_change_password: false,
                locale: locale.as_str(),
                email_is_taken: false,
                min_password_expire_time: None,
                is_guest: true,
                create_time: now,
            };
            let user = store::user_insert(tx, &new).await.map_err(taken)?;
            store::user_role_insert(tx, id, ReservedRole::Guest).await?;
            let stored = GuestCredential {
                user_id: id,
                mac,
                create_time: now,
                use_time: now,
                sweep_time: self.next_guest_check(now, now),
            };
            store::guest_credential_insert(tx, &stored).await?;
            let by = (AuthMethods::GUEST_CREDENTIAL, now);
            let begun = sessions.begin(tx, context, &user, None, by).await?;
            let recorded = store::user_record_login(tx, &user, now).await?;
            let user = recorded.ok_or(Error::UserNotFound)?;
            AuditEvent::new("user.register_guest")
                .user(id)
                .record(tx, context, now)
                .await?;
            feed::publish(tx, begun.changes, now).await?;
            Ok(LoggedIn {
                user,
                tokens: begun.tokens,
                device_token: begun.device_token,
            })
        });
        let logged_in = registered?;
        counts::guest("registered");
        Ok(NewGuest { logged_in, credential })
    }
}

/// Returns a random login with the prefix that is reserved for guests.
fn generated_login() -> String {
    let random: [u8; GUEST_LOGIN_RANDOM_LEN] = rand::random();
    let characters = random
        .iter()
        .map(|byte| char::from(GUEST_LOGIN_ALPHABET[usize::from(byte % 32)]));
    GUEST_LOGIN_PREFIX.chars().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_login_is_one_of_a_guest() {
        for _ in 0..100 {
            let login = generated_login();
            assert!(access::policy::is_guest_login(&login), "{login}");
            let login: names::Login = login.parse().expect("a login");
            assert!(login.is_reserved());
        }
    }
}
