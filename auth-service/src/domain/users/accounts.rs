//! Use cases of accounts.

use std::{collections::BTreeSet, time::Duration};

use base::{clock::Clock, ids::UserId};
use db::{Db, Loader};

use crate::{
    domain::{
        audit::event::Records,
        emails::rule::EmailRequirement,
        error::Error,
        factors::rules::Factors,
        guests::rules::Guests,
        mail::outbox::Mails,
        passwords::{attempts::Attempts, hashing::HashingPool, password::PasswordRules, present_costs::PresentCosts},
        sessions::lifecycle::Sessions,
        users::export_limits::ExportLimits,
    },
    model::{ReservedRole, User},
    store::{self, UserWithHoldings},
};

/// The use cases of accounts. The modules beside this one implement most of them.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) hashing: HashingPool,
    pub(crate) present_costs: PresentCosts,
    pub(crate) sessions: Sessions,
    /// Loader of users and what they hold.
    pub(crate) profiles: Loader<UserId, UserWithHoldings>,
    pub(crate) attempts: Attempts,
    pub(crate) mails: Mails,
    /// Rules for passwords.
    pub(crate) password_rules: PasswordRules,
    /// The rule that users must verify their address before they log in, if it is on.
    pub(crate) email_requirement: Option<EmailRequirement>,
    /// Lifetime of a password that an administrator has set.
    pub(crate) temporary_password_life: Duration,
    /// Whether users may register themselves.
    pub(crate) registration_open: bool,
    pub(crate) guests: Guests,
    pub(crate) export_limits: ExportLimits,
    pub(crate) factors: Factors,
}

/// A user with their roles and permissions.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) user: User,
    /// Code names of the roles, sorted.
    pub(crate) roles: Vec<String>,
    pub(crate) is_admin: bool,
    /// Names of all permissions that the user holds, sorted.
    pub(crate) permissions: Vec<String>,
}

impl Records for Accounts {
    fn db(&self) -> &Db {
        &self.db
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Accounts {
    /// Returns the profile of an active user.
    pub(crate) async fn profile(&self, user_id: UserId) -> Result<Profile, Error> {
        let found = self.profiles.get(user_id).await?;
        let found = found.filter(|(user, _)| user.is_active);
        let (user, holdings) = found.ok_or(Error::UserNotFound)?;
        let permissions = if holdings.is_superuser() {
            store::permission_names(&mut self.db.read().await?).await?
        } else {
            let names: BTreeSet<&str> = holdings.names().collect();
            names.into_iter().map(str::to_owned).collect()
        };
        let roles = holdings.roles;
        let is_admin = roles.iter().any(|role| {
            matches!(
                ReservedRole::parse(role),
                Some(ReservedRole::Admin | ReservedRole::Superuser)
            )
        });
        Ok(Profile {
            user,
            roles,
            is_admin,
            permissions,
        })
    }
}
