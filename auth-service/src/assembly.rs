//! Assembles the use cases, and the gRPC services on top of them.

use std::{collections::BTreeSet, sync::Arc};

use access::token::Verifier;
use base::{clock::Clock, rate::KeyedLimit, shares::Shares};
use db::{Db, GroupCommit, Loader};
use futures_util::FutureExt as _;

use crate::{
    ServerSecrets,
    config::AuthSettings,
    domain::{
        Accounts, Attempts, AuditLog, ChallengeTokens, DECLARATIONS, DeviceTokens, EmailRequirement, ExportLimits,
        Factors, FeedTail, GuestCredentials, Guests, HashingPool, Issuer, KeyRing, KnownDevices, Mails,
        PlainLoginWriter, PresentCosts, Rbac, RecoveryCodes, RefreshTokens, ServiceAccounts, Sessions, TokenUseWriter,
        TotpSecrets,
    },
    grpc::{AccessFeedRpc, AccountRpc, AuditRpc, AuthRpc, KeyRpc, RbacRpc, ServiceAccountRpc, Transports, UserRpc},
    jobs::Jobs,
    mail::Mailer,
    store,
};

/// The parts from which the use cases are assembled.
pub(crate) struct Assembly<'a> {
    pub(crate) settings: &'a AuthSettings,
    pub(crate) secrets: &'a ServerSecrets,
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) keys: KeyRing,
    pub(crate) tail: FeedTail,
    pub(crate) hashing: HashingPool,
    pub(crate) present_costs: PresentCosts,
    /// Name under which users know the deployment.
    pub(crate) site: String,
    /// Code names of the roles whose members must have a second factor.
    pub(crate) required_roles: BTreeSet<String>,
    /// Sends mails. `None` if this deployment cannot.
    pub(crate) mailer: Option<Mailer>,
    /// The rule that users must verify their address before they log in, if it is on.
    pub(crate) email_requirement: Option<EmailRequirement>,
    /// Verifier that accepts tokens for any audience.
    pub(crate) any_audience: Verifier,
    /// Upper limit of access feed streams for each account. The settings cannot exceed it.
    pub(crate) max_feed_streams: u32,
}

/// The gRPC services, and the jobs that run in the background.
pub(crate) struct Domain {
    pub(crate) auth: AuthRpc,
    pub(crate) account: AccountRpc,
    pub(crate) users: UserRpc,
    pub(crate) keys: KeyRpc,
    pub(crate) feed: AccessFeedRpc,
    pub(crate) audit: AuditRpc,
    pub(crate) rbac: RbacRpc,
    pub(crate) service_accounts: ServiceAccountRpc,
    jobs: Jobs,
}

impl Domain {
    /// Returns the jobs that run in the background.
    pub(crate) fn jobs(&self) -> Jobs {
        self.jobs.clone()
    }
}

impl Assembly<'_> {
    /// Assembles the services and the jobs.
    #[expect(clippy::too_many_lines, reason = "a list of the parts, each made once")]
    pub(crate) fn assemble(mut self) -> Domain {
        let devices = KnownDevices {
            db: self.db.clone(),
            tokens: DeviceTokens::new(self.secrets),
            max_per_user: self.settings.max_sessions_per_user.into(),
        };
        let mails = Mails::new(devices.clone(), self.clock.clone(), self.secrets, self.mailer.take());
        let sessions = self.sessions(devices, mails.clone());
        let rules = self.settings.attempts.rules(self.settings.guests.rate());
        let attempts = Attempts::new(self.db.clone(), self.clock.clone(), self.secrets, rules);
        let audit_log = AuditLog {
            db: self.db.clone(),
            clock: self.clock.clone(),
            retention: self.settings.audit_retention(),
        };
        let service_accounts = ServiceAccounts {
            db: self.db.clone(),
            clock: self.clock.clone(),
            issuer: sessions.issuer.clone(),
            attempts: attempts.clone(),
        };
        let rbac = Rbac {
            db: self.db.clone(),
            clock: self.clock.clone(),
            declarations: KeyedLimit::new(DECLARATIONS),
        };
        let guests = Guests {
            credentials: GuestCredentials::new(self.secrets),
            is_open: self.settings.guests.guests_open,
            max_idle: self.settings.guests.max_idle(),
        };
        let accounts = Accounts {
            profiles: Loader::new(self.db.clone(), |conn, ids| {
                store::users_with_holdings(conn, ids).boxed()
            }),
            db: self.db.clone(),
            clock: self.clock.clone(),
            hashing: self.hashing,
            present_costs: self.present_costs,
            sessions: sessions.clone(),
            attempts: attempts.clone(),
            mails: mails.clone(),
            password_rules: self.settings.password_rules(),
            email_requirement: self.email_requirement,
            temporary_password_life: self.settings.temporary_password_life(),
            registration_open: self.settings.registration_open,
            guests,
            export_limits: ExportLimits::default(),
            factors: Factors {
                secrets: TotpSecrets::new(self.secrets, &self.site),
                recovery_codes: RecoveryCodes::new(self.secrets),
                challenges: ChallengeTokens::new(self.secrets),
                required_roles: self.required_roles,
            },
        };
        let jobs = Jobs {
            keys: self.keys.clone(),
            feed: self.tail.clone(),
            sessions: sessions.clone(),
            attempts,
            audit_log: audit_log.clone(),
            accounts: accounts.clone(),
            mails,
            db: self.db,
            clock: self.clock,
        };
        let transports = Transports::new(self.settings.cookies.clone());
        let streams = self.settings.max_feed_streams_per_account.min(self.max_feed_streams);
        Domain {
            auth: AuthRpc {
                accounts: accounts.clone(),
                sessions,
                service_accounts: service_accounts.clone(),
                transports: transports.clone(),
            },
            account: AccountRpc {
                accounts: accounts.clone(),
                transports,
            },
            users: UserRpc { accounts },
            keys: KeyRpc { keys: self.keys },
            feed: AccessFeedRpc {
                tail: self.tail,
                streams: Arc::new(Shares::new(streams)),
            },
            audit: AuditRpc { log: audit_log },
            rbac: RbacRpc { rbac },
            service_accounts: ServiceAccountRpc {
                accounts: service_accounts,
            },
            jobs,
        }
    }

    fn sessions(&self, devices: KnownDevices, mails: Mails) -> Sessions {
        let plain_logins = PlainLoginWriter {
            db: self.db.clone(),
            clock: self.clock.clone(),
            lifetimes: self.settings.lifetimes(),
            max_per_user: devices.max_per_user,
        };
        Sessions {
            db: self.db.clone(),
            clock: self.clock.clone(),
            issuer: Issuer {
                keys: self.keys.clone(),
                name: self.settings.token_issuer.clone(),
                audience: self.settings.token_audience.clone(),
                life: self.settings.access_token_life(),
                service_life: self.settings.service_token_life(),
                clock: self.clock.clone(),
            },
            refresh_tokens: RefreshTokens::new(self.secrets),
            devices,
            mails: Arc::new(mails),
            verifier: self.any_audience.clone(),
            lifetimes: self.settings.lifetimes(),
            loader: Loader::new(self.db.clone(), |conn, ids| {
                store::sessions_with_holdings(conn, ids).boxed()
            }),
            token_uses: GroupCommit::new(&self.db, "token_uses", TokenUseWriter(self.db.clone())),
            plain_logins: GroupCommit::new(&self.db, "plain_logins", plain_logins),
        }
    }
}
