//! ID tokens as proofs of an identity.

use base::{clock::Timestamp, ids::UserId};
use db::{Conn, write_tx};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        identities::nonces::PresentedNonce,
        request_context::RequestContext,
        users::{accounts::Accounts, names::Email},
    },
    ids::IdentityId,
    model::UserIdentity,
    providers::Unverified,
    store,
};

/// An ID token, as presented.
#[derive(Debug)]
pub(crate) struct IdTokenProof {
    /// Name of the identity provider.
    pub(crate) provider: String,
    pub(crate) id_token: SecretString,
    /// Nonce for which the ID token was issued.
    pub(crate) nonce: SecretString,
}

/// An identity that an ID token has proved.
#[derive(Debug)]
pub(in crate::domain) struct ProvenIdentity {
    /// Name of the identity provider.
    pub(in crate::domain) provider: String,
    pub(in crate::domain) issuer: String,
    pub(in crate::domain) subject: String,
    /// Address of the user, if the provider has verified it and is trusted with addresses.
    pub(in crate::domain) email: Option<Email>,
    /// Time when the user proved to the provider who they are.
    pub(in crate::domain) auth_time: Timestamp,
    nonce: PresentedNonce,
}

impl Accounts {
    /// Verifies an ID token. The audit log records a refusal as a failed `action`. The nonce is not
    /// used up yet.
    pub(in crate::domain) async fn verify_id_token(
        &self,
        context: &RequestContext,
        proof: &IdTokenProof,
        action: &'static str,
    ) -> Result<ProvenIdentity, Error> {
        self.attempts.admit_login(context)?;
        let provider = self.identities.providers.get(&proof.provider);
        let provider = provider.ok_or(Error::IdentityProviderNotFound)?;
        let nonce = proof.nonce.expose_secret();
        let opened = self.identities.nonces.open(nonce, &proof.provider, self.clock.now());
        let Some(opened) = opened else {
            let error = Error::ExternalNonceInvalid;
            return Err(self.refuse_identity(context, proof, (action, None), error).await);
        };
        match provider.verify(proof.id_token.expose_secret(), nonce).await {
            Ok(token) => Ok(ProvenIdentity {
                provider: proof.provider.clone(),
                issuer: provider.spec().issuer.clone(),
                subject: token.subject,
                // An address that we would not accept from a user is none.
                email: token
                    .email
                    .and_then(|email| email.parse().ok())
                    .filter(|email: &Email| !email.is_reserved()),
                auth_time: token.auth_time,
                nonce: opened,
            }),
            Err(Unverified::Invalid) => {
                let error = Error::IdTokenInvalid;
                Err(self.refuse_identity(context, proof, (action, None), error).await)
            }
            Err(Unverified::Unavailable(pause)) => Err(Error::IdentityProviderUnavailable(pause)),
        }
    }

    /// Verifies an ID token of an identity of the actor. The audit log records a refusal as a
    /// failed `action`.
    pub(in crate::domain) async fn verify_actor_by_id_token(
        &self,
        context: &RequestContext,
        proof: &IdTokenProof,
        action: &'static str,
    ) -> Result<ProvenIdentity, Error> {
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let proven = self.verify_id_token(context, proof, action).await?;
        if proven.is_of(&mut self.db.read().await?, id).await? {
            return Ok(proven);
        }
        let error = Error::IdentityNotFound;
        Err(self.refuse_identity(context, proof, (action, None), error).await)
    }

    /// Records a proof that is refused, and returns the error. `found` is the user whose identity
    /// was proved, if they are known.
    pub(super) async fn refuse_identity(
        &self,
        context: &RequestContext,
        proof: &IdTokenProof,
        (action, found): (&'static str, Option<UserId>),
        error: Error,
    ) -> Error {
        let reason = match error {
            Error::ExternalNonceInvalid => "EXTERNAL_NONCE_INVALID",
            Error::IdTokenInvalid => "ID_TOKEN_INVALID",
            Error::IdentityNotFound => "IDENTITY_NOT_FOUND",
            _ => "USER_DEACTIVATED",
        };
        let audited: Result<(), Error> = write_tx!(self.db, |tx| {
            let event = AuditEvent::new(action)
                .named_user(found.or(context.user_id()))
                .refused(reason)
                .detail("provider", &proof.provider);
            Ok(event.record(tx, context, self.clock.now()).await?)
        });
        audited.err().unwrap_or(error)
    }
}

impl ProvenIdentity {
    /// Uses the nonce up. This comes first in a transaction, so that others with the same nonce
    /// wait for its end. If the transaction is rolled back, the nonce can be used again.
    pub(in crate::domain) async fn use_nonce(&self, tx: &mut Conn) -> Result<(), Error> {
        if store::nonce_use(tx, &self.nonce.digest, self.nonce.expire_time).await? {
            Ok(())
        } else {
            Err(Error::ExternalNonceInvalid)
        }
    }

    /// Returns whether the identity is linked to this user.
    pub(in crate::domain) async fn is_of(&self, conn: &mut Conn, user_id: UserId) -> Result<bool, Error> {
        let found = self.stored(conn).await?;
        Ok(found.is_some_and(|identity| identity.user_id == user_id))
    }

    /// Returns the identity as it is stored, if it is linked to a user.
    pub(super) async fn stored(&self, conn: &mut Conn) -> db::Result<Option<UserIdentity>> {
        store::identity_by_subject(conn, &self.issuer, &self.subject).await
    }

    /// Links the identity to this user. `use_time` is the time of a login with it.
    pub(super) async fn link(
        &self,
        tx: &mut Conn,
        user_id: UserId,
        now: Timestamp,
        use_time: Option<Timestamp>,
    ) -> Result<UserIdentity, Error> {
        let identity = UserIdentity {
            id: IdentityId::generate(),
            user_id,
            issuer: self.issuer.clone(),
            subject: self.subject.clone(),
            provider: self.provider.clone(),
            create_time: now,
            last_use_time: use_time,
        };
        if store::identity_insert(tx, &identity).await? {
            Ok(identity)
        } else {
            Err(Error::IdentityAlreadyLinked)
        }
    }
}
