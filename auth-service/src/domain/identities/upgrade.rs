//! Upgrade of a guest to a user who logs in with an identity provider.

use db::write_tx;

use crate::{
    domain::{
        audit::event::AuditEvent,
        counts,
        error::Error,
        feed::{self, Change},
        identities::{
            creation::{StoredAddress, generated_login, in_use},
            proof::IdTokenProof,
        },
        request_context::RequestContext,
        sessions::{lifetimes::TokenPair, revocation},
        users::{
            accounts::Accounts,
            names::Login,
            profile::{ensure_free, search_folded, taken},
        },
    },
    model::{ReservedRole, SessionEnd, User},
    store::{self, ProfileValues},
};

const ACTION: &str = "user.upgrade";

impl Accounts {
    /// Upgrades the actor, ends the other sessions, and replaces the tokens of this session. The
    /// credential of the guest is no longer valid. Without a `login`, it is generated.
    pub(crate) async fn upgrade_with_id_token(
        &self,
        context: &RequestContext,
        proof: &IdTokenProof,
        login: Option<Login>,
    ) -> Result<(User, TokenPair), Error> {
        // Limited like a registration, because the answer also reveals whether a name is taken.
        self.attempts.admit_registration(context)?;
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let proven = self.verify_id_token(context, proof, ACTION).await?;
        let hash = self.hashing.unusable()?;
        let generated = generated_login();
        let (login, login_folded) = login
            .as_ref()
            .map_or((&*generated, &*generated), |login| (login.as_str(), login.folded()));
        let key = proven.email.as_ref().map(|email| email.key().to_owned());
        let sessions = self.sessions.for_audience_of(context);
        if self.mails.is_configured() {
            self.mails.time.refresh().await?;
        }
        let upgraded: Result<(User, TokenPair), Error> = write_tx!(self.db, |tx| {
            proven.use_nonce(tx).await?;
            let holders = self.lock_holders_first(tx, id, key.as_slice()).await?;
            let (user, session) = self.lock_actor(tx, context).await?;
            if !user.is_guest {
                return Err(Error::NotAGuest);
            }
            ensure_free(tx, Some(id), Some(login_folded), None).await?;
            let now = self.clock.now();
            proven.link(tx, id, now, None).await?;
            let (keep, end) = (Some(session.id), SessionEnd::PasswordChanged);
            let revoked = revocation::log_out_everywhere(tx, id, keep, end, now).await?;
            let address = StoredAddress::of(id, proven.email.as_ref());
            let names = [&user.first_name, &user.middle_name, &user.last_name].map(String::as_str);
            let values = ProfileValues {
                search_folded: search_folded(login_folded, &address.email, names),
                login: login.to_owned(),
                login_folded: login_folded.to_owned(),
                email: address.email,
                email_folded: Some(address.folded),
                email_is_taken: Some(address.is_taken),
                key_time: Some(now),
                first_name: user.first_name.clone(),
                last_name: user.last_name.clone(),
                middle_name: user.middle_name.clone(),
                locale: user.locale.clone(),
                email_verify_time: Some(None),
                email_set_time: Some(now),
                update_time: now,
            };
            let mut user = store::user_set_profile(tx, id, &values).await.map_err(taken)?;
            if let Some(key) = &key {
                self.claim_email(tx, &user, key, &holders).await.map_err(in_use)?;
                user = self.record_email_proof(tx, &user, now).await?;
            }
            store::user_upgrade(tx, id, &hash).await?;
            store::guest_credential_delete(tx, id).await?;
            store::user_role_unassign(tx, id, ReservedRole::Guest.code_name()).await?;
            store::user_role_assign(tx, id, ReservedRole::Player.code_name()).await?;
            user.is_guest = false;
            user.must_change_password = false;
            user.token_version = revoked.token_version;
            user.force_logout_time = Some(now);
            let tokens = sessions.replace_tokens(tx, context, &user, &session, now).await?;
            let event = AuditEvent::new(ACTION).user(id).detail("provider", &proven.provider);
            event.record(tx, context, now).await?;
            let renamed = Change::UserRenamed {
                user_id: id,
                login: user.login.clone(),
            };
            feed::publish(tx, vec![revoked.change, renamed], now).await?;
            Ok((user, tokens))
        });
        if upgraded.is_ok() {
            counts::guest("upgraded");
        }
        upgraded
    }
}
