//! Identities that are linked to an account, and unlinked from it.

use base::clock::Timestamp;
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        feed::{self, Change},
        identities::proof::{IdTokenProof, ProvenIdentity},
        mail::notices::Notice,
        passwords::unusable::has_password,
        request_context::RequestContext,
        sessions::revocation,
        users::{accounts::Accounts, names},
    },
    ids::IdentityId,
    model::{AuthMethods, Session, SessionEnd, User, UserIdentity},
    store,
};

const LINK: &str = "user.link_identity";
const UNLINK: &str = "user.unlink_identity";
/// Maximum number of identities of a user.
const MAX_IDENTITIES: usize = 10;

impl Accounts {
    /// Links an identity to the actor's account. Returns it as it is if it is linked already.
    pub(crate) async fn link_identity(
        &self,
        context: &RequestContext,
        proof: &IdTokenProof,
    ) -> Result<UserIdentity, Error> {
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let proven = self.verify_id_token(context, proof, LINK).await?;
        self.mails.time.refresh().await?;
        let keys: Vec<String> = proven.email.iter().map(|email| email.key().to_owned()).collect();
        write_tx!(self.db, |tx| {
            proven.use_nonce(tx).await?;
            let holders = self.lock_holders_first(tx, id, &keys).await?;
            let (user, session) = self.lock_actor(tx, context).await?;
            if user.is_guest {
                return Err(Error::GuestAccount);
            }
            if let Some(identity) = proven.stored(tx).await? {
                if identity.user_id != id {
                    return Err(Error::IdentityAlreadyLinked);
                }
                return Ok(identity);
            }
            let now = self.clock.now();
            let mut published = Vec::new();
            let own_key = names::identifier_key(&user.email);
            if user.email_verify_time.is_none() && keys.contains(&own_key) {
                match self.claim_email(tx, &user, &own_key, &holders).await {
                    // Another user keeps the address, so it is not proved to be this user's.
                    Err(Error::UserAlreadyExists(_)) => {}
                    claimed => {
                        claimed?;
                        self.record_email_proof(tx, &user, now).await?;
                        published.push(self.end_what_was_before(tx, context, (&user, &session), now).await?);
                    }
                }
            }
            if store::identities_of_user(tx, id).await?.len() >= MAX_IDENTITIES {
                return Err(Error::TooManyIdentities);
            }
            let identity = proven.link(tx, id, now, None).await?;
            self.tell_of_identity(tx, context, &user, Linking::Linked(&proven), now)
                .await?;
            feed::publish(tx, published, now).await?;
            Ok(identity)
        })
    }

    /// Unlinks an identity from the actor's account, and ends the other sessions, which may have
    /// begun with it.
    pub(crate) async fn unlink_identity(&self, context: &RequestContext, identity_id: IdentityId) -> Result<(), Error> {
        self.mails.time.refresh().await?;
        write_tx!(self.db, |tx| {
            let (user, session) = self.lock_actor(tx, context).await?;
            let identities = store::identities_of_user(tx, user.id).await?;
            let (unlinked, others): (Vec<_>, Vec<_>) =
                identities.into_iter().partition(|identity| identity.id == identity_id);
            let unlinked = unlinked.first().ok_or(Error::IdentityNotFound)?;
            if !has_password(&user) && !others.iter().any(|identity| self.is_way_in(identity)) {
                return Err(Error::LastLoginMethod);
            }
            let now = self.clock.now();
            store::identity_delete(tx, unlinked.id).await?;
            let (keep, end) = (Some(session.id), SessionEnd::Revoked);
            let revoked = revocation::log_out_everywhere(tx, user.id, keep, end, now).await?;
            self.tell_of_identity(tx, context, &user, Linking::Unlinked(unlinked), now)
                .await?;
            feed::publish(tx, vec![revoked.change], now).await?;
            Ok(())
        })
    }

    /// Returns the actor's identities, and whether the actor has a password.
    pub(crate) async fn own_identities(&self, context: &RequestContext) -> Result<(Vec<UserIdentity>, bool), Error> {
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let mut conn = self.db.read().await?;
        let user = store::user_by_id(&mut conn, id).await?;
        let user = user.filter(|user| user.is_person() && user.is_active);
        let user = user.ok_or(Error::UserNotFound)?;
        let identities = store::identities_of_user(&mut conn, id).await?;
        Ok((identities, has_password(&user)))
    }

    /// Returns whether a user can log in with the identity at present.
    fn is_way_in(&self, identity: &UserIdentity) -> bool {
        self.identities.providers.has_issuer(&identity.issuer)
    }

    /// Ends what there was of an account before its address was first proved: the account may have
    /// been made by somebody else, who waits for the owner of the address to use it. The actor's
    /// session stays, and so does what the actor has just proved to know. The caller publishes the
    /// returned change.
    async fn end_what_was_before(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        (user, session): (&User, &Session),
        now: Timestamp,
    ) -> Result<Change, Error> {
        let has_proved = |method: &AuthMethods| {
            let methods = context.principal().map(|principal| principal.auth_methods());
            methods
                .unwrap_or_default()
                .iter()
                .any(|proved| proved == method.as_str())
        };
        if !has_proved(&AuthMethods::PASSWORD) {
            store::user_set_password(tx, user.id, &self.hashing.unusable()?, false).await?;
        }
        if !has_proved(&AuthMethods::ID_TOKEN) {
            store::identities_delete(tx, user.id).await?;
        }
        let (keep, end) = (Some(session.id), SessionEnd::Revoked);
        Ok(revocation::log_out_everywhere(tx, user.id, keep, end, now)
            .await?
            .change)
    }

    /// Records that an identity was linked or unlinked, and tells the user by mail.
    async fn tell_of_identity(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        linking: Linking<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (action, provider, is_linked) = match linking {
            Linking::Linked(proven) => (LINK, &proven.provider, true),
            Linking::Unlinked(identity) => (UNLINK, &identity.provider, false),
        };
        // The name for people may be gone from the file.
        let found = self.identities.providers.get(provider);
        let name = found.map_or(provider.as_str(), |found| found.spec().display_name.as_str());
        let notice = if is_linked {
            Notice::IdentityLinked { provider: name }
        } else {
            Notice::IdentityUnlinked { provider: name }
        };
        self.mails.post_notice(tx, context, user, notice, now).await?;
        let event = AuditEvent::new(action).user(user.id).detail("provider", provider);
        Ok(event.record(tx, context, now).await?)
    }
}

/// A change to the identities of a user.
enum Linking<'a> {
    Linked(&'a ProvenIdentity),
    Unlinked(&'a UserIdentity),
}
