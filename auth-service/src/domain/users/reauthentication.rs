//! Reauthentication: the bearer of an access token proves once more who they are, and gets an
//! access token that says when.
//!
//! Only that token is fresh. Neither the session nor its refresh token is, so someone who has
//! stolen either of them gains nothing from it.

use db::write_tx;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        factors::proof::SecondProof,
        passwords::{
            attempts::{Attempt, Guess},
            changes::ensure_still_verified,
            password::Password,
        },
        request_context::RequestContext,
        tokens::access::{AccessToken, Bearer, RequestedAudience},
        users::accounts::Accounts,
    },
    model::{AuthMethods, Authentication, User},
    store,
};

const ACTION: &str = "session.reauthenticate";

/// Proof that the actor presents.
#[derive(Debug)]
pub(crate) enum Proof {
    Password(Password),
    /// The credential of a guest, as presented.
    GuestCredential(SecretString),
    SecondFactor(SecondProof),
}

/// A proof that is right.
enum Proven {
    /// The user, as read when the password was verified.
    Password(Box<User>),
    GuestCredential,
    /// A code that is still to be verified, because that uses it up. The attempt is counted.
    SecondFactor(SecondProof, Attempt),
}

impl Accounts {
    /// Verifies the proof, and issues an access token for the actor's session that has the time and
    /// the method of the proof. Without an `audience`, it has that of the actor's present token.
    /// Wrong proofs are limited and counted as at a login.
    pub(crate) async fn reauthenticate(
        &self,
        context: &RequestContext,
        proof: Proof,
        audience: Option<&RequestedAudience>,
    ) -> Result<AccessToken, Error> {
        let sessions = match audience {
            Some(audience) => self.sessions.for_audience(audience).await?,
            None => self.sessions.for_audience_of(context),
        };
        let proven = match proof {
            Proof::Password(password) => {
                let verified = self.verify_actor(context, password, ACTION).await?;
                Proven::Password(Box::new(verified))
            }
            Proof::GuestCredential(credential) => {
                let credential = credential.expose_secret();
                self.verify_actor_as_guest(context, credential, ACTION).await?;
                Proven::GuestCredential
            }
            Proof::SecondFactor(proof) => {
                self.attempts.admit_login(context)?;
                let id = context.user_id().ok_or(Error::UserNotFound)?;
                let guess = Guess::CurrentSecondFactor(id);
                let guess = self.attempts.check_wait(context, guess).await?;
                Proven::SecondFactor(proof, self.attempts.count(guess).await?)
            }
        };
        let issued: Result<Option<AccessToken>, Error> = write_tx!(self.db, |tx| {
            let (user, session) = self.lock_actor(tx, context).await?;
            let methods = match &proven {
                Proven::Password(verified) => {
                    ensure_still_verified(&user, verified)?;
                    AuthMethods::PASSWORD
                }
                // The account may have been upgraded meanwhile.
                Proven::GuestCredential if store::guest_credential(tx, user.id).await?.is_none() => return Ok(None),
                Proven::GuestCredential => AuthMethods::GUEST_CREDENTIAL,
                Proven::SecondFactor(..) if !user.has_second_factor => return Err(Error::NoSecondFactor),
                Proven::SecondFactor(proof, attempt) => {
                    if !self.use_second_factor(tx, &user, proof).await? {
                        let event = AuditEvent::new(ACTION)
                            .target("session", session.id)
                            .concerning(user.id);
                        let event = attempt.note(event.refused("SECOND_FACTOR_WRONG"));
                        event.record(tx, context, self.clock.now()).await?;
                        // Committed, so that it is recorded.
                        return Ok(None);
                    }
                    self.attempts.succeeded(tx, attempt).await?;
                    // The other factor is the one with which the session began.
                    session.authentication.methods.with_code()
                }
            };
            let now = self.clock.now();
            let event = AuditEvent::new(ACTION)
                .target("session", session.id)
                .concerning(user.id);
            let event = event.detail("methods", methods.as_str());
            event.record(tx, context, now).await?;
            let holdings = store::token_holdings(tx, user.id).await?;
            let authentication = Authentication::new(now, methods);
            let bearer = Bearer::Session(session.id, &authentication);
            Ok(Some(sessions.issuer.issue(&user, &holdings, bearer)?))
        });
        match issued? {
            Some(token) => Ok(token),
            None if matches!(proven, Proven::SecondFactor(..)) => Err(Error::SecondFactorWrong),
            None => Err(self.refuse_actor_as_guest(context, ACTION).await),
        }
    }
}
