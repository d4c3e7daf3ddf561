//! Hashes of passwords that are being set. Breached ones are refused.

use std::io;

use base::validate::InvalidFields;
use secrecy::SecretString;

use super::{
    HashingPool,
    own::{internal, new_hash},
};
use crate::domain::{
    error::Error,
    passwords::{breached::BreachedPasswords, password::Password, queue::Client},
};

/// Reason why a password that was chosen is not hashed.
enum NotHashed {
    Breached,
    Unreadable(io::Error),
    Failed(argon2::password_hash::Error),
}

impl HashingPool {
    /// Refuses to hash a chosen password that is in this file.
    pub(crate) fn with_breached(self, breached: Option<BreachedPasswords>) -> Self {
        Self { breached, ..self }
    }

    /// Hashes a password that is being set, with a new salt. Returns the PHC string. Refuses a
    /// breached password; `field` is the field of the request that the error names. Fails if the
    /// breached passwords cannot be read, so that none is set unchecked.
    pub(crate) async fn hash(
        &self,
        client: &Client<'_>,
        password: Password,
        field: &'static str,
    ) -> Result<SecretString, Error> {
        let permit = self.permit(client).await?;
        let breached = self.breached.clone();
        let hash = self.run(permit, move |argon2, memory| {
            // The look-up may wait for the disk, so it is done on this thread as well.
            let is_breached = breached.map(|breached| breached.contains(&password)).transpose();
            if is_breached.map_err(NotHashed::Unreadable)? == Some(true) {
                return Err(NotHashed::Breached);
            }
            new_hash(argon2, &password, memory).map_err(NotHashed::Failed)
        });
        hash.await?.map_err(|error| match error {
            NotHashed::Breached => {
                InvalidFields::one(field, "must not be a password that is known from a data breach").into()
            }
            NotHashed::Unreadable(error) => Error::BreachedPasswordsUnreadable(error),
            NotHashed::Failed(error) => internal(error),
        })
    }
}
