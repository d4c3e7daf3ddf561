//! auth-service: issues and rotates tokens; owns users and sessions. It alone holds private keys.
//!
//! A request passes through three layers. `grpc` parses it and makes one call into `domain`.
//! `domain` applies the rules in a transaction and uses the SQL of `store`. The way back carries
//! only plain values and domain errors.

mod assembly;
pub mod cli;
pub mod commands;
pub mod config;
mod docs;
mod domain;
mod etag;
mod grpc;
mod ids;
mod jobs;
mod mail;
mod model;
mod store;

use access::{
    token::{AUTH_SERVICE, AcceptedAudiences, KeySet, Verifier},
    view::{AccessView, OnSilence, SilenceRule},
};
use base::{StartError, clock::Clock, listen::Listener, running::Running};
use db::{Db, MigrationLock, write_tx};
use proto::auth::v1::{
    FILE_DESCRIPTOR_SET, access_feed_service_server::AccessFeedServiceServer,
    account_service_server::AccountServiceServer, audit_service_server::AuditServiceServer,
    auth_service_server::AuthServiceServer, key_service_server::KeyServiceServer,
    rbac_service_server::RbacServiceServer, service_account_service_server::ServiceAccountServiceServer,
    user_service_server::UserServiceServer,
};
use server::{ServerSettings, Service};
use tonic::service::Routes;

use self::{
    assembly::{Assembly, Domain},
    config::AuthSettings,
    domain::{
        EmailRequirement, Error, FeedTail, HashingPool, KeyRing, KeyRingError, LostRevocations, PresentCosts,
        RequestContext,
    },
    mail::Mailer,
};
pub use self::{
    domain::{
        InvalidServiceAccounts, SecretError, ServerSecrets, ServiceAccountSpec, ensure_first_admin,
        first_admin_password_changed, generate_client_secret, generate_password,
    },
    store::MIGRATIONS,
};

/// The parts from which auth-service is started. The caller has already bound the sockets and
/// connected the database.
#[derive(Debug)]
pub struct AuthService<'a> {
    /// Settings of auth-service itself.
    pub settings: &'a AuthSettings,
    /// Settings of the gRPC server.
    pub server: &'a ServerSettings,
    /// Database of auth-service.
    pub db: Db,
    /// Current server secret, and the previous one while it is being replaced.
    pub secrets: ServerSecrets,
    /// Service accounts to create or update at the start.
    pub service_accounts: Vec<ServiceAccountSpec>,
    /// Clock of the service.
    pub clock: Clock,
    /// Socket on which gRPC is served.
    pub grpc: Listener,
    /// Socket on which HTTP is served.
    pub http: Listener,
}

impl AuthService<'_> {
    /// Waits for the database, prepares it and starts to serve. The service runs until the stop
    /// token of `running` is cancelled. Returns the keys that verify its access tokens.
    ///
    /// With `migrate`, pending migrations are applied. Without it, they are an error.
    pub async fn spawn(self, migrate: bool, running: &Running) -> Result<KeySet, StartError> {
        self.check_settings()?;
        let mailer = self.mailer()?;
        let required_roles = self.settings.factors.required_roles()?;
        let hashing = self.hashing_pool()?;
        let present_costs = PresentCosts::new(self.db.clone(), hashing.clone());
        let key_set = KeySet::empty();
        let access = self.access_view(&key_set);
        let audiences = AcceptedAudiences::deployment(&self.settings.token_audience)
            .or_service(AUTH_SERVICE)
            .admitting_deployment_as_own(self.settings.admit_deployment_tokens);
        let verifier = |audiences| {
            let issuer = &self.settings.token_issuer;
            Verifier::new(issuer, audiences, key_set.clone(), self.clock.clone())
        };
        // Introspection and revocation also accept tokens for other services.
        let any_audience = verifier(audiences.clone().or_any());
        let service = Service {
            settings: self.server,
            descriptor_set: FILE_DESCRIPTOR_SET,
            verifier: verifier(audiences),
            access: access.clone(),
            backing: self.db.clone(),
            clock: &self.clock,
            grpc: self.grpc,
            http: self.http,
        };
        let service = service.start(running).await?;
        domain::counts::describe();

        let parts = (&self.db, &self.secrets, self.settings, &self.clock);
        let (service_accounts, hashing_pool, costs) = (self.service_accounts.as_slice(), &hashing, &present_costs);
        let roles = &required_roles;
        let prepare = || async move {
            let keys = prepare(parts, service_accounts, migrate).await?;
            let (db, _, settings, clock) = parts;
            domain::bootstrap(db, settings, hashing_pool, clock).await?;
            costs.refresh().await.map_err(start_error)?;
            let requirement = EmailRequirement::establish(db, clock, settings.mail.require_verified_email).await?;
            domain::warn_of_unknown_roles(db, roles).await?;
            Ok((keys, requirement))
        };
        let Some((keys, email_requirement)) = service.prepare(prepare).await? else {
            return Ok(key_set);
        };
        key_set.replace(keys.jwks());
        let tail = FeedTail::new(self.db.clone(), self.clock.clone());
        running.follow("access feed", tail.clone().follow());
        running.follow("access view", tail.clone().fill(access.clone()));
        service.wait_for_access().await;
        let lost = LostRevocations {
            db: self.db.clone(),
            clock: self.clock.clone(),
            keys: keys.clone(),
            access,
        };
        running.follow("lost revocations", lost.follow());

        let domain = Assembly {
            settings: self.settings,
            secrets: &self.secrets,
            db: self.db,
            clock: self.clock,
            keys,
            tail,
            hashing,
            present_costs,
            site: self.settings.mail.site(&self.settings.gateway_url),
            mailer,
            required_roles,
            email_requirement,
            any_audience,
            max_feed_streams: (self.server.max_concurrent_streams / 2).max(1),
        }
        .assemble();
        domain.jobs().spawn(running);
        let pages = domain
            .keys
            .clone()
            .router()
            .merge(docs::router(&self.settings.gateway_url));
        service.serve_pages(pages);
        service.serve(routes(domain));
        Ok(key_set)
    }
}

impl AuthService<'_> {
    /// Creates the view of who may do what, by which calls are authorized.
    fn access_view(&self, key_set: &KeySet) -> AccessView {
        // auth-service reads the feed from its own database. If that fails, the calls fail with the
        // database's error, so this rule need not refuse them.
        AccessView::following(key_set.clone(), self.clock.clone()).with_silence(SilenceRule {
            writes: OnSilence::Allow,
            ..SilenceRule::default()
        })
    }

    /// Refuses settings that cannot work together, and warns of those that expose tokens.
    fn check_settings(&self) -> Result<(), StartError> {
        for origin in self.settings.cookies.exposed() {
            tracing::warn!(%origin, "pages of this origin get their refresh tokens in a cookie without TLS");
        }
        if self.settings.token_audience == AUTH_SERVICE {
            return Err(StartError::setting(
                "--token-audience must not be auth-service: that is the audience of tokens for this service only",
            ));
        }
        Ok(())
    }

    /// Returns the pool that hashes passwords.
    fn hashing_pool(&self) -> Result<HashingPool, StartError> {
        let hashing = HashingPool::new(self.settings.hashing()).map_err(StartError::setting)?;
        Ok(hashing.with_breached(self.settings.breached.open()?))
    }

    /// Returns what sends the mails, or `None` with a warning if nothing does.
    fn mailer(&self) -> Result<Option<Mailer>, StartError> {
        let mailer = self.settings.mail.mailer(&self.settings.gateway_url)?;
        if mailer.is_none() {
            if self.settings.mail.require_verified_email {
                return Err(StartError::setting(
                    "--require-verified-email needs --smtp-url or --mail-folder: the code is sent by mail",
                ));
            }
            tracing::warn!(
                "no mail server is configured (--smtp-url), so users can neither reset a forgotten password nor \
                verify their e-mail address"
            );
        }
        Ok(mailer)
    }
}

/// Returns the routes of all gRPC services.
fn routes(domain: Domain) -> Routes {
    Routes::new(AuthServiceServer::new(domain.auth))
        .add_service(AccountServiceServer::new(domain.account))
        .add_service(UserServiceServer::new(domain.users))
        .add_service(KeyServiceServer::new(domain.keys))
        .add_service(AccessFeedServiceServer::new(domain.feed))
        .add_service(AuditServiceServer::new(domain.audit))
        .add_service(RbacServiceServer::new(domain.rbac))
        .add_service(ServiceAccountServiceServer::new(domain.service_accounts))
}

/// Brings the database up to date and opens the signing keys. If several replicas start at once,
/// one does the work and the others wait for it.
async fn prepare(
    (db, secrets, settings, clock): (&Db, &ServerSecrets, &AuthSettings, &Clock),
    service_accounts: &[ServiceAccountSpec],
    migrate: bool,
) -> Result<KeyRing, StartError> {
    let mut lock = MigrationLock::acquire(db).await?;
    db::bring_up_to_date(&mut lock, &MIGRATIONS, migrate).await?;
    domain::recompute_stale_name_keys(db, clock).await?;
    let declared: Result<(), Error> = write_tx!(db, |tx| {
        domain::feed::prepare(tx, settings.longest_token_life()).await?;
        domain::declare_own(tx, FILE_DESCRIPTOR_SET, clock.now()).await
    });
    declared.map_err(start_error)?;
    let keys: Result<_, KeyRingError> = write_tx!(db, |tx| {
        domain::feed::hold(tx).await?;
        let keys = KeyRing::open(tx, (db.clone(), clock.clone()), secrets, settings.key_schedule()).await?;
        domain::feed::sync(tx, &keys.jwks(), clock.now()).await?;
        Ok(keys)
    });
    let keys = keys.map_err(|error| match error {
        KeyRingError::Database(error) => error.into(),
        error => StartError::failed(error),
    })?;
    for spec in service_accounts {
        ensure_service_account(db, clock, spec).await?;
    }
    Ok(keys)
}

/// Creates a service account, or updates it to match `spec`.
pub async fn ensure_service_account(db: &Db, clock: &Clock, spec: &ServiceAccountSpec) -> Result<(), StartError> {
    let context = RequestContext::itself();
    let ensured: Result<(), Error> = write_tx!(db, |tx| spec.ensure(tx, &context, clock.now()).await);
    ensured.map_err(|error| match start_error(error) {
        error @ StartError::Outage(_) => error,
        error => StartError::Failed(format!("cannot create a service account: {error}")),
    })
}

fn start_error(error: Error) -> StartError {
    match error {
        Error::Database(error) => error.into(),
        error => StartError::failed(error),
    }
}
