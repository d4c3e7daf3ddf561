//! Login with an ID token.

use base::ids::UserId;
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::AuditEvent,
        counts,
        error::Error,
        identities::proof::{IdTokenProof, ProvenIdentity},
        request_context::RequestContext,
        sessions::lifecycle::Sessions,
        tokens::access::RequestedAudience,
        users::{
            accounts::Accounts,
            login::{LoggedIn, ProvenLogin},
            names::Login,
        },
    },
    ids::DeviceId,
    mail::Locale,
    model::{AuthMethods, User},
    store,
};

const ACTION: &str = "session.login";

/// A request to log in with an ID token.
#[derive(Debug)]
pub(crate) struct IdTokenLogin {
    pub(crate) proof: IdTokenProof,
    /// Device token from an earlier login on this device; empty if there is none.
    pub(crate) device_token: String,
    /// Login of a new user. Without one, it is generated.
    pub(crate) login: Option<Login>,
    /// Language of mails to a new user.
    pub(crate) locale: Locale,
    /// Audience of the access token.
    pub(crate) audience: RequestedAudience,
}

/// A login with an ID token.
#[derive(Debug)]
pub(crate) struct ExternalLogin {
    pub(crate) logged_in: LoggedIn,
    /// Whether this login has created the user.
    pub(crate) is_new_user: bool,
}

/// A user whose identity was found before the transaction of the login.
struct Known {
    user: User,
    /// The device, if the user is known to use it.
    device: Option<DeviceId>,
}

impl Accounts {
    /// Starts a session of the user with this identity. If there is none yet, creates them.
    pub(crate) async fn login_with_id_token(
        &self,
        context: &RequestContext,
        login: &IdTokenLogin,
    ) -> Result<ExternalLogin, Error> {
        let outcome = self.attempt_external_login(context, login).await;
        counts::external_login(&outcome);
        outcome
    }

    async fn attempt_external_login(
        &self,
        context: &RequestContext,
        login: &IdTokenLogin,
    ) -> Result<ExternalLogin, Error> {
        let proven = self.verify_id_token(context, &login.proof, ACTION).await?;
        let sessions = self.sessions.for_audience(&login.audience).await?;
        if self.mails.is_configured() {
            self.mails.time.refresh().await?;
        }
        // Two first logins with one identity may meet. The second one finds the user of the first.
        for _ in 0..2 {
            let outcome = match self.known_user(&proven, login).await? {
                Some(known) => self.login_known(context, login, &proven, &sessions, known).await,
                None => self.login_new(context, login, &proven, &sessions).await,
            };
            match outcome {
                Err(Error::IdentityAlreadyLinked) => {}
                outcome => return outcome,
            }
        }
        Err(Error::IdentityAlreadyLinked)
    }

    async fn known_user(&self, proven: &ProvenIdentity, login: &IdTokenLogin) -> Result<Option<Known>, Error> {
        let mut conn = self.db.read().await?;
        let Some(identity) = proven.stored(&mut conn).await? else {
            return Ok(None);
        };
        let user = store::user_by_id(&mut conn, identity.user_id).await?;
        drop(conn);
        let user = user.ok_or(Error::UserNotFound)?;
        let device = self.sessions.devices.known_device(&user, &login.device_token).await?;
        Ok(Some(Known { user, device }))
    }

    /// Logs in a user who has had the identity before.
    async fn login_known(
        &self,
        context: &RequestContext,
        login: &IdTokenLogin,
        proven: &ProvenIdentity,
        sessions: &Sessions,
        known: Known,
    ) -> Result<ExternalLogin, Error> {
        let Known { user, device } = known;
        let id = user.id;
        if user.is_active {
            self.ensure_email_verified(&user).await?;
        }
        let logged_in: Result<Option<LoggedIn>, Error> = write_tx!(self.db, |tx| {
            proven.use_nonce(tx).await?;
            let user = store::user_lock(tx, id).await?;
            let user = user.filter(|user| user.is_person() && user.is_active);
            // Meanwhile the identity may have been unlinked.
            let identity = proven.stored(tx).await?.filter(|identity| identity.user_id == id);
            let Some((user, identity)) = user.zip(identity) else {
                return Ok(None);
            };
            let is_noticed = device.is_none() && user.last_login_time.is_some();
            let now = self.clock.now();
            store::identity_record_use(tx, identity.id, now).await?;
            let recorded = store::user_record_login(tx, &user, now).await?;
            let user = recorded.ok_or(Error::UserNotFound)?;
            let login = proven_login(proven, user.id, device, is_noticed);
            Ok(Some(self.complete_login(tx, context, sessions, user, login).await?))
        });
        match logged_in? {
            Some(logged_in) => Ok(ExternalLogin {
                logged_in,
                is_new_user: false,
            }),
            None => Err(self
                .refuse_identity(context, &login.proof, (ACTION, Some(id)), Error::CredentialsInvalid)
                .await),
        }
    }

    /// Creates a user with the identity, and logs them in.
    async fn login_new(
        &self,
        context: &RequestContext,
        login: &IdTokenLogin,
        proven: &ProvenIdentity,
        sessions: &Sessions,
    ) -> Result<ExternalLogin, Error> {
        if !self.registration_open {
            return Err(Error::RegistrationClosed);
        }
        // The answer also reveals whether a name is taken.
        self.attempts.admit_registration(context)?;
        let hash = self.hashing.unusable()?;
        let logged_in: Result<LoggedIn, Error> = write_tx!(self.db, |tx| {
            proven.use_nonce(tx).await?;
            let now = self.clock.now();
            let user = self
                .create_external_user(tx, proven, (login.login.as_ref(), &login.locale), &hash, now)
                .await?;
            proven.link(tx, user.id, now, Some(now)).await?;
            self.record_registration(tx, context, proven, &user).await?;
            let recorded = store::user_record_login(tx, &user, now).await?;
            let user = recorded.ok_or(Error::UserNotFound)?;
            let login = proven_login(proven, user.id, None, false);
            self.complete_login(tx, context, sessions, user, login).await
        });
        Ok(ExternalLogin {
            logged_in: logged_in?,
            is_new_user: true,
        })
    }

    async fn record_registration(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        proven: &ProvenIdentity,
        user: &User,
    ) -> Result<(), Error> {
        let event = AuditEvent::new("user.register")
            .user(user.id)
            .detail("provider", &proven.provider);
        Ok(event.record(tx, context, self.clock.now()).await?)
    }
}

fn proven_login(
    proven: &ProvenIdentity,
    user_id: UserId,
    device: Option<DeviceId>,
    is_noticed: bool,
) -> ProvenLogin<'static> {
    ProvenLogin {
        device,
        is_noticed,
        methods: AuthMethods::ID_TOKEN,
        attempt: None,
        event: AuditEvent::new(ACTION)
            .user(user_id)
            .detail("method", "id_token")
            .detail("provider", &proven.provider),
        published: Vec::new(),
    }
}
