//! Callers who act on the address of their own account. Those who cannot log in before they have
//! verified it prove who they are with their password.

use base::ids::UserId;
use db::Conn;

use crate::{
    domain::{
        error::Error,
        factors::proof::Missing,
        passwords::{changes::ensure_still_verified, password::Password},
        request_context::RequestContext,
        users::{accounts::Accounts, people::user_lock_person},
    },
    model::User,
};

/// Caller who acts on the address of their own account.
#[derive(Debug)]
pub(crate) enum AddressOwner {
    /// The bearer of the access token.
    Bearer,
    /// The user with this login or e-mail address, as typed, and this password.
    Credentials { identifier: String, password: Password },
}

/// A caller whose credentials are right.
#[derive(Debug)]
pub(super) enum ProvenOwner {
    Bearer,
    /// The user, as read when the password was verified.
    Verified(Box<User>),
}

impl Accounts {
    /// Verifies the caller's password, if there is one. The audit log records a refusal as a failed
    /// `action`.
    pub(super) async fn prove_owner(
        &self,
        context: &RequestContext,
        owner: AddressOwner,
        action: &'static str,
    ) -> Result<ProvenOwner, Error> {
        Ok(match owner {
            AddressOwner::Bearer => {
                self.attempts.admit_login(context)?;
                ProvenOwner::Bearer
            }
            AddressOwner::Credentials { identifier, password } => {
                let user = self.verify_identified(context, &identifier, password, action).await?;
                ProvenOwner::Verified(Box::new(user))
            }
        })
    }

    /// Returns the id of the caller.
    pub(super) fn id_of(context: &RequestContext, owner: &ProvenOwner) -> Result<UserId, Error> {
        match owner {
            ProvenOwner::Bearer => context.user_id().ok_or(Error::UserNotFound),
            ProvenOwner::Verified(user) => Ok(user.id),
        }
    }

    /// Locks the caller's row, for a change of the address. Fails as [`Self::lock_owner`] does, and
    /// if the password is temporary: somebody else has chosen it.
    pub(super) async fn lock_changing_owner(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        owner: &ProvenOwner,
    ) -> Result<User, Error> {
        let user = self.lock_owner(tx, context, owner).await?;
        if user.must_change_password {
            return Err(Error::PasswordChangeRequired);
        }
        Ok(user)
    }

    /// Fails if the user, who has proved only that they know the password, could not log in with it
    /// alone. Otherwise a stolen password would change the address to which a code for the addition
    /// of a second factor is mailed.
    pub(super) async fn ensure_password_is_enough(&self, tx: &mut Conn, user: &User) -> Result<(), Error> {
        match self.missing_factor(tx, user).await? {
            None => Ok(()),
            // An address that was never verified may be mistyped, and is no proof of anything.
            Some(Missing::Enrolment) if user.email_verify_time.is_none() => Ok(()),
            Some(_) => Err(Error::SecondFactorRequired),
        }
    }

    /// Locks the caller's row. Fails if the session has ended, or if the password has changed since
    /// it was verified.
    pub(super) async fn lock_owner(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        owner: &ProvenOwner,
    ) -> Result<User, Error> {
        match owner {
            ProvenOwner::Bearer => {
                let (user, _) = self.lock_actor(tx, context).await?;
                if user.is_guest {
                    return Err(Error::GuestAccount);
                }
                Ok(user)
            }
            ProvenOwner::Verified(verified) => {
                let user = user_lock_person(tx, verified.id).await?;
                if !user.is_active || ensure_still_verified(&user, verified).is_err() {
                    return Err(Error::CredentialsInvalid);
                }
                Ok(user)
            }
        }
    }
}
