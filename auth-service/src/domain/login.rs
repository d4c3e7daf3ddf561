//! Login.

use secrecy::ExposeSecret as _;
use shared::db::write_tx;

use super::{
    Accounts, Act, Error, Password, TokenPair, feed,
    hashing::Verdict,
    names,
    passwords::{ensure_fit, replace_at_login},
};
use crate::store::{self, User};

/// Who wants to log in.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// The login or the e-mail address, as typed.
    pub(crate) identifier: String,
    pub(crate) password: Password,
    /// Replaces the password.
    pub(crate) new_password: Option<Password>,
}

/// A user with a new session.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) user: store::User,
    pub(crate) tokens: TokenPair,
}

impl Accounts {
    /// Starts a session. Who does not exist, who is not active and whose password is wrong get the same answer after the
    /// same work.
    pub(crate) async fn login(&self, act: &Act, credentials: Credentials) -> Result<LoggedIn, Error> {
        let folded = names::fold(credentials.identifier.trim());
        let mut conn = self.db.read().await?;
        // No login has an @, and every address has one.
        let found = if folded.contains('@') {
            store::user_by_email(&mut conn, &folded).await?
        } else {
            store::user_by_login(&mut conn, &folded).await?
        };
        // A service has its own way in, and nobody is left who was deleted.
        let found = found.filter(User::is_person);
        // Hashing takes long; somebody else can use the connection meanwhile.
        drop(conn);

        let hash = found.as_ref().map(|user| user.password_hash.clone());
        let verdict = self.hashing.verify(credentials.password.clone(), hash).await?;
        let (Some(found), Verdict::Right | Verdict::RightButOutdated) = (found, verdict) else {
            return Err(Error::CredentialsInvalid);
        };
        // Whoever has got here knows the password, and may learn more.
        let new_hash = match credentials.new_password {
            Some(new) => {
                ensure_fit(&new, &found, "new_password")?;
                Some(self.hashing.hash(new).await?)
            }
            None if found.must_change_password => return Err(Error::PasswordChangeRequired),
            None => None,
        };
        let rehash = match verdict {
            Verdict::RightButOutdated if new_hash.is_none() => Some(self.hashing.hash(credentials.password).await?),
            _ => None,
        };
        write_tx!(self.db, |tx| {
            let user = store::user_lock(tx, found.id).await?.filter(|user| user.is_active);
            let mut user = user.ok_or(Error::CredentialsInvalid)?;
            // The password may have been changed while this one was verified.
            if user.password_hash.expose_secret() != found.password_hash.expose_secret() {
                return Err(Error::CredentialsInvalid);
            }
            let now = self.clock.now();
            let mut published = Vec::new();
            if let Some(hash) = &new_hash {
                published.push(replace_at_login(tx, act, &mut user, hash, now).await?);
            }
            if let Some(hash) = &rehash {
                store::user_password_rehash(tx, user.id, hash).await?;
            }
            store::user_record_login(tx, user.id, now).await?;
            user.last_login_time = Some(now);
            let tokens = self.sessions.begin(tx, act, &user, now).await?;
            feed::publish(tx, published, now).await?;
            Ok(LoggedIn { user, tokens })
        })
    }
}
