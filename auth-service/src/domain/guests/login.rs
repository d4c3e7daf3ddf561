//! Login of guests, who present the credential that their device keeps.

use std::collections::BTreeMap;

use db::write_tx;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    domain::{
        audit::event::AuditEvent,
        counts,
        error::Error,
        feed,
        guests::credential::{CredentialVerdict, PresentedCredential},
        refusals::refused_in_steps,
        request_context::RequestContext,
        sessions::plain_logins::PlainLogin,
        tokens::access::RequestedAudience,
        users::{accounts::Accounts, login::LoggedIn},
    },
    ids::DeviceId,
    model::{AuthMethods, User},
    store,
};

const ACTION: &str = "session.login";
/// Reason in the audit log if there is no such guest, or the credential is wrong.
const WRONG: &str = "CREDENTIALS_INVALID";
/// Reason in the audit log if the credential is right and the guest is deactivated. The caller is
/// told [`WRONG`].
const DEACTIVATED: &str = "USER_DEACTIVATED";

/// A request of a guest to log in.
#[derive(Debug)]
pub(crate) struct GuestLogin {
    /// The credential, as presented.
    pub(crate) credential: SecretString,
    /// Device token from an earlier login on this device; empty if there is none.
    pub(crate) device_token: String,
    /// Audience of the access token.
    pub(crate) audience: RequestedAudience,
}

impl Accounts {
    /// Starts a session. An unknown guest, an inactive guest and a wrong credential get the same
    /// answer after the same work.
    pub(crate) async fn login_guest(&self, context: &RequestContext, login: &GuestLogin) -> Result<LoggedIn, Error> {
        // Not against guesses, which are hopeless, but to limit the work.
        self.attempts.admit_login(context)?;
        refused_in_steps(self.attempt_guest_login(context, login)).await
    }

    async fn attempt_guest_login(&self, context: &RequestContext, login: &GuestLogin) -> Result<LoggedIn, Error> {
        let presented = PresentedCredential::parse(login.credential.expose_secret());
        let (found, verdict) = self.verify_guest(presented.as_ref()).await?;
        let user = match (found, &verdict) {
            (Some(user), CredentialVerdict::Right | CredentialVerdict::RightButOutdated(_)) if user.is_active => user,
            (found, verdict) => {
                let is_right = *verdict != CredentialVerdict::Wrong;
                let reason = if is_right { DEACTIVATED } else { WRONG };
                return Err(self.refuse_guest(context, found.as_ref(), reason).await);
            }
        };
        let sessions = self.sessions.for_audience(&login.audience).await?;
        let device = self.sessions.devices.known_device(&user, &login.device_token).await?;
        if verdict == CredentialVerdict::Right {
            let login = PlainLogin {
                verified: user.clone(),
                context: context.clone(),
                device: device.unwrap_or_else(DeviceId::generate),
                methods: AuthMethods::GUEST_CREDENTIAL,
                event: AuditEvent::new(ACTION)
                    .user(user.id)
                    .detail("method", "guest_credential"),
                settled: BTreeMap::new(),
            };
            if let Some((user, begun)) = sessions.begin_plain(login).await? {
                counts::guest("logged_in");
                return Ok(LoggedIn {
                    user,
                    tokens: begun.tokens,
                    device_token: begun.device_token,
                });
            }
        }
        let logged_in: Result<Option<LoggedIn>, Error> = write_tx!(self.db, |tx| {
            // The account may have been upgraded meanwhile, which replaces the password.
            let recorded = store::user_record_login(tx, &user, self.clock.now()).await?;
            let Some(user) = recorded else {
                return Ok(None);
            };
            // The time is read again, because another transaction may have held the row for long.
            let now = self.clock.now();
            if let CredentialVerdict::RightButOutdated(mac) = &verdict {
                store::guest_credential_renew(tx, user.id, mac).await?;
            }
            let by = (AuthMethods::GUEST_CREDENTIAL, now);
            let begun = sessions.begin(tx, context, &user, device, by).await?;
            AuditEvent::new(ACTION)
                .user(user.id)
                .detail("session_id", begun.session_id)
                .detail("method", "guest_credential")
                .record(tx, context, now)
                .await?;
            feed::publish(tx, begun.changes, now).await?;
            Ok(Some(LoggedIn {
                user,
                tokens: begun.tokens,
                device_token: begun.device_token,
            }))
        });
        match logged_in? {
            Some(logged_in) => {
                counts::guest("logged_in");
                Ok(logged_in)
            }
            None => Err(self.refuse_guest(context, Some(&user), WRONG).await),
        }
    }

    /// Verifies a credential, and returns the guest that it names. For an unknown guest the same
    /// statements and comparisons run, and find nothing.
    pub(in crate::domain) async fn verify_guest(
        &self,
        presented: Option<&PresentedCredential>,
    ) -> Result<(Option<User>, CredentialVerdict), Error> {
        let id = presented.map_or_else(base::ids::UserId::generate, |presented| presented.user_id);
        let mut conn = self.db.read().await?;
        let found = store::user_by_id(&mut conn, id).await?;
        let stored = store::guest_credential(&mut conn, id).await?;
        drop(conn);
        let found = found.filter(|user| user.is_person() && user.is_guest);
        // The credential of an unknown guest is compared as well, with nothing.
        let mac = stored.map(|stored| stored.mac).unwrap_or_default();
        let verdict = presented.map(|presented| self.guests.credentials.verify(presented, &mac));
        let verdict = verdict.filter(|_| found.is_some()).unwrap_or(CredentialVerdict::Wrong);
        Ok((found, verdict))
    }

    /// Records a failed login in the audit log.
    async fn refuse_guest(&self, context: &RequestContext, found: Option<&User>, reason: &'static str) -> Error {
        counts::guest("refused");
        let audited: Result<(), Error> = write_tx!(self.db, |tx| {
            AuditEvent::new(ACTION)
                .named_user(found.map(|user| user.id))
                .refused(reason)
                .detail("method", "guest_credential")
                .record(tx, context, self.clock.now())
                .await?;
            Ok(())
        });
        audited.err().unwrap_or(Error::GuestCredentialInvalid)
    }
}
