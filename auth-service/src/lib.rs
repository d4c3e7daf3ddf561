//! auth-service: issues and rotates tokens; owns users and sessions. It alone holds private keys.
//!
//! A request goes `grpc` (parse, one call) -> `domain` (rules, one transaction) -> `store` (SQL); nothing comes back up but
//! a value or a domain error.

pub mod commands;
pub mod config;
mod docs;
mod domain;
mod etag;
mod grpc;
mod ids;
mod jobs;
mod store;

use std::sync::Arc;

use futures_util::FutureExt as _;
use shared::{
    clock::Clock,
    config::{StartError, when_available},
    db::{Db, Loader, MigrationLock, write_tx},
    feed::{AccessView, OnSilence, SilenceRule},
    proto::auth::v1::{
        FILE_DESCRIPTOR_SET, access_feed_service_server::AccessFeedServiceServer,
        account_service_server::AccountServiceServer, audit_service_server::AuditServiceServer,
        auth_service_server::AuthServiceServer, key_service_server::KeyServiceServer,
        rbac_service_server::RbacServiceServer, service_account_service_server::ServiceAccountServiceServer,
        user_service_server::UserServiceServer,
    },
    rate::KeyedLimit,
    server::{GrpcServer, HttpServer, Listener, MAX_MESSAGE_LEN, Running, ServerSettings},
    shares::Shares,
    token::{AUTH_SERVICE, AcceptedAudiences, KeySet, Verifier},
};
use tonic::service::Routes;

use self::{
    config::AuthSettings,
    domain::{
        Accounts, Act, Attempts, AuditLog, DECLARATIONS, DeviceTokens, Error, FeedTail, HashingPool, Issuer, KeyRing,
        KeyRingError, LostRevocations, Rbac, RefreshTokens, ServiceAccounts, Sessions,
    },
    grpc::{AccessFeedRpc, AccountRpc, AuditRpc, AuthRpc, KeyRpc, RbacRpc, ServiceAccountRpc, Transports, UserRpc},
    jobs::Jobs,
};
pub use self::{
    domain::{
        InvalidServiceAccounts, SecretError, ServerSecrets, ServiceAccountSpec, ensure_first_admin,
        first_admin_password_changed, generate_client_secret, generate_password,
    },
    store::MIGRATIONS,
};

/// What auth-service needs to run. The caller has bound the sockets and connected the database.
#[derive(Debug)]
pub struct AuthService<'a> {
    /// Its own settings.
    pub settings: &'a AuthSettings,
    /// The settings of its gRPC server.
    pub server: &'a ServerSettings,
    /// Its database.
    pub db: Db,
    /// The server secret.
    pub secrets: ServerSecrets,
    /// Service accounts that there shall be.
    pub service_accounts: Vec<ServiceAccountSpec>,
    /// What time it is.
    pub clock: Clock,
    /// Where it serves gRPC.
    pub grpc: Listener,
    /// Where it serves HTTP.
    pub http: Listener,
}

impl AuthService<'_> {
    /// Waits for the database, prepares it, and serves until the stop token of `running` is cancelled. Gives the keys that verify its tokens.
    ///
    /// `migrate` applies the migrations that are pending; without it they are an error.
    pub async fn spawn(self, migrate: bool, running: &Running) -> Result<KeySet, StartError> {
        for origin in self.settings.cookies.exposed() {
            tracing::warn!(%origin, "refresh tokens travel to this origin in a cookie without TLS");
        }
        let hashing = HashingPool::new(self.settings.hashing()).map_err(StartError::setting)?;
        let key_set = KeySet::empty();
        if self.settings.token_audience == AUTH_SERVICE {
            return Err(StartError::setting(
                "--token-audience must not be auth-service: that is the audience of tokens for this service alone",
            ));
        }
        let (issuer, audience) = (&self.settings.token_issuer, &self.settings.token_audience);
        // Where its own database is silent, auth-service says so itself.
        let access = AccessView::following(key_set.clone(), self.clock.clone()).with_silence(SilenceRule {
            writes: OnSilence::Allow,
            ..SilenceRule::default()
        });
        let audiences = AcceptedAudiences::deployment(audience)
            .or_service(AUTH_SERVICE)
            .admitting_deployment_as_own(self.settings.admit_deployment_tokens);
        let verifier = Verifier::new(issuer, audiences.clone(), key_set.clone(), self.clock.clone());
        // Tokens for other services can be introspected and revoked too.
        let any_audience = Verifier::new(issuer, audiences.or_any(), key_set.clone(), self.clock.clone());
        let server = GrpcServer {
            settings: self.server,
            descriptor_set: FILE_DESCRIPTOR_SET,
            verifier,
            access: access.clone(),
        };
        let (health, rpcs) = server.spawn(self.grpc, running).await.map_err(StartError::setting)?;
        let pages = HttpServer::new(health.clone()).spawn(self.server, self.http, running);
        domain::counts::describe();
        self.db.report(running);
        self.db.watch_clock(&self.clock, running);

        let stop = running.stop_token();
        let parts = (&self.db, &self.secrets, self.settings, &self.clock);
        let (service_accounts, hashing_pool) = (self.service_accounts.as_slice(), &hashing);
        let prepare = || async move {
            let keys = prepare(parts, service_accounts, migrate).await?;
            let (db, _, settings, clock) = parts;
            domain::bootstrap(db, settings, hashing_pool, clock).await?;
            Ok(keys)
        };
        let Some(keys) = Box::pin(when_available(&self.db, stop, prepare)).await? else {
            return Ok(key_set);
        };
        key_set.replace(keys.jwks());
        let tail = FeedTail::new(self.db.clone(), self.clock.clone());
        running.follow("access feed", tail.clone().follow());
        running.follow("access view", tail.clone().fill(access.clone()));
        tail.settle_commits(&access);
        stop.run_until_cancelled(access.wait_until_loaded()).await;

        let lost = LostRevocations {
            db: self.db.clone(),
            clock: self.clock.clone(),
            keys: keys.clone(),
            access: access.clone(),
        };
        running.follow("lost revocations", lost.follow());

        let sessions = Sessions {
            db: self.db.clone(),
            clock: self.clock.clone(),
            issuer: Issuer {
                keys: keys.clone(),
                name: issuer.clone(),
                audience: audience.clone(),
                life: self.settings.access_token_life(),
                service_life: self.settings.service_token_life(),
                clock: self.clock.clone(),
            },
            refresh_tokens: RefreshTokens::new(&self.secrets),
            device_tokens: DeviceTokens::new(&self.secrets),
            verifier: any_audience,
            lives: self.settings.lives(),
            live: Loader::new(self.db.clone(), |conn, ids| {
                store::sessions_with_holdings(conn, ids).boxed()
            }),
            max_per_user: self.settings.max_sessions_per_user.into(),
        };
        let attempts = Attempts::new(
            self.db.clone(),
            self.clock.clone(),
            &self.secrets,
            self.settings.attempts.rules(),
        );
        let audit_log = AuditLog {
            db: self.db.clone(),
            clock: self.clock.clone(),
            retention: self.settings.audit_retention(),
        };
        let jobs = Jobs {
            keys: keys.clone(),
            feed: tail.clone(),
            sessions: sessions.clone(),
            attempts: attempts.clone(),
            audit_log: audit_log.clone(),
            db: self.db.clone(),
            clock: self.clock.clone(),
        };
        jobs.spawn(running);
        let accounts = Accounts {
            db: self.db.clone(),
            clock: self.clock,
            hashing,
            sessions: sessions.clone(),
            profiles: Loader::new(self.db.clone(), |conn, ids| {
                store::users_with_holdings(conn, ids).boxed()
            }),
            attempts: attempts.clone(),
            password_rules: self.settings.password_rules(),
            registration_open: self.settings.registration_open,
        };
        let key_rpc = KeyRpc { keys };
        let transports = Transports::new(self.settings.cookies.clone());
        let account_rpc = AccountRpc {
            accounts: accounts.clone(),
            transports: transports.clone(),
        };
        let user_rpc = UserRpc {
            accounts: accounts.clone(),
        };
        let service_accounts = ServiceAccounts {
            db: self.db.clone(),
            clock: accounts.clock.clone(),
            issuer: sessions.issuer.clone(),
            attempts,
        };
        let service_account_rpc = ServiceAccountRpc {
            accounts: service_accounts.clone(),
        };
        let rbac_rpc = RbacRpc {
            rbac: Rbac {
                db: self.db.clone(),
                clock: accounts.clock.clone(),
                declarations: KeyedLimit::new(DECLARATIONS),
            },
        };
        let most = self.settings.max_feed_streams_per_account;
        let feed_rpc = AccessFeedRpc {
            tail,
            streams: Arc::new(Shares::new(most.min(self.server.max_concurrent_streams / 2).max(1))),
        };
        let auth_rpc = AuthRpc {
            accounts,
            sessions,
            service_accounts,
            transports,
        };
        pages.mount(key_rpc.clone().router().merge(docs::router(&self.settings.gateway_url)));
        rpcs.mount(
            Routes::new(AuthServiceServer::new(auth_rpc).max_decoding_message_size(MAX_MESSAGE_LEN))
                .add_service(AccountServiceServer::new(account_rpc).max_decoding_message_size(MAX_MESSAGE_LEN))
                .add_service(UserServiceServer::new(user_rpc).max_decoding_message_size(MAX_MESSAGE_LEN))
                .add_service(KeyServiceServer::new(key_rpc).max_decoding_message_size(MAX_MESSAGE_LEN))
                .add_service(AccessFeedServiceServer::new(feed_rpc).max_decoding_message_size(MAX_MESSAGE_LEN))
                .add_service(
                    AuditServiceServer::new(AuditRpc { log: audit_log }).max_decoding_message_size(MAX_MESSAGE_LEN),
                )
                .add_service(RbacServiceServer::new(rbac_rpc).max_decoding_message_size(MAX_MESSAGE_LEN))
                .add_service(
                    ServiceAccountServiceServer::new(service_account_rpc).max_decoding_message_size(MAX_MESSAGE_LEN),
                ),
        );
        let db = self.db;
        let ready = move || {
            let (db, access) = (db.clone(), access.clone());
            async move { access.is_loaded() && db.ping().await.is_ok() }
        };
        health.spawn(ready, running);
        Ok(key_set)
    }
}

/// Brings the database up to date, and opens the keys. Of many replicas that start at once, one does what has to be
/// done and the others wait for it.
async fn prepare(
    (db, secrets, settings, clock): (&Db, &ServerSecrets, &AuthSettings, &Clock),
    service_accounts: &[ServiceAccountSpec],
    migrate: bool,
) -> Result<KeyRing, StartError> {
    let mut lock = MigrationLock::acquire(db).await?;
    shared::db::bring_up_to_date(&mut lock, &MIGRATIONS, migrate).await?;
    domain::recompute_stale_keys(db, clock).await?;
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
    let act = Act::itself();
    let ensured: Result<(), Error> = write_tx!(db, |tx| spec.ensure(tx, &act, clock.now()).await);
    ensured.map_err(|error| match start_error(error) {
        error @ StartError::Outage(_) => error,
        error => StartError::Failed(format!("cannot make a service account: {error}")),
    })
}

fn start_error(error: Error) -> StartError {
    match error {
        Error::Database(error) => error.into(),
        error => StartError::failed(error),
    }
}
