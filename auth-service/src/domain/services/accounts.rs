//! The accounts of other services: a client id, and a secret for which a service gets access tokens
//! (RFC 6749, 4.4).
//!
//! A secret is 256 random bits, which nobody guesses, so a plain digest keeps it: a slow hash would
//! protect nothing more, and let anybody keep the hashing pool busy.

use std::{collections::BTreeSet, time::Duration};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base::{
    clock::{Clock, Timestamp},
    ids::{UserId, UserKind},
    page::{PageRequest, Position},
    validate::InvalidFields,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use db::{Conn, Db, write_tx};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    domain::{
        audit::event::{AuditEvent, Records, recording_refusals},
        error::Error,
        feed::{self, Change},
        passwords::attempts::Attempts,
        rbac::{authority, lock::lock_policies},
        request_context::RequestContext,
        services::client_id::ClientId,
        sessions::revocation,
        tokens::access::{AccessToken, Bearer, Issuer, RequestedAudience},
    },
    model::{ReservedRole, ServiceAccount},
    store,
};

const SECRET_BYTES: usize = 32;
/// The time of the last token is kept as exactly as this, so that not every token costs a write.
const LAST_TOKEN_PRECISION: Duration = Duration::from_mins(1);
/// The use cases of service accounts.
#[derive(Clone, Debug)]
pub(crate) struct ServiceAccounts {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) issuer: Issuer,
    pub(crate) attempts: Attempts,
}

/// An account, and what it holds.
#[derive(Debug)]
pub(crate) struct AccountWithHoldings {
    pub(crate) account: ServiceAccount,
    /// Code names, sorted.
    pub(crate) roles: Vec<String>,
    /// Granted directly, sorted.
    pub(crate) permissions: Vec<String>,
}

/// An account to be.
#[derive(Clone, Debug)]
pub(crate) struct NewServiceAccount {
    pub(crate) client_id: ClientId,
    pub(crate) description: String,
    pub(crate) roles: Vec<String>,
    pub(crate) permissions: Vec<String>,
}

impl NewServiceAccount {
    /// Default roles of an account.
    pub(crate) fn default_roles() -> Vec<String> {
        vec![ReservedRole::Service.code_name().to_owned()]
    }
}

/// A new secret.
pub fn generate_client_secret() -> SecretString {
    let mut bytes = [0; SECRET_BYTES];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    SecretString::from(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Stored form of a secret.
pub(in crate::domain) fn digest_of(secret: &str) -> Vec<u8> {
    digest(&SHA256, secret.as_bytes()).as_ref().to_vec()
}

impl Records for ServiceAccounts {
    fn db(&self) -> &Db {
        &self.db
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl ServiceAccounts {
    /// An access token for the service with this secret.
    pub(crate) async fn issue_token(
        &self,
        context: &RequestContext,
        (client_id, secret): (&str, &str),
        audience: &RequestedAudience,
    ) -> Result<AccessToken, Error> {
        // Nobody guesses a secret. What is bounded is the work.
        self.attempts.admit_login(context)?;
        let Ok(client_id) = client_id.parse::<ClientId>() else {
            return self.refuse(context, None).await;
        };
        let client_id = client_id.as_str();
        let presented = digest_of(secret);
        let now = self.clock.now();
        let mut conn = self.db.read().await?;
        let account = store::service_account_by_client_id(&mut conn, client_id).await?;
        let is_right = account.as_ref().is_some_and(|account| account.accepts(&presented, now));
        let Some(account) = account.filter(|_| is_right) else {
            drop(conn);
            return self.refuse(context, Some(client_id)).await;
        };
        let user = store::user_by_id(&mut conn, account.user_id).await?;
        let Some(user) = user.filter(|user| user.is_active) else {
            drop(conn);
            return self.refuse(context, Some(client_id)).await;
        };
        let holdings = store::token_holdings(&mut conn, user.id).await?;
        drop(conn);
        if account
            .last_token_time
            .is_none_or(|last| now.since(last) >= LAST_TOKEN_PRECISION)
        {
            let recorded: Result<(), Error> = write_tx!(self.db, |tx| {
                store::service_account_record_token(tx, user.id, now).await?;
                Ok(())
            });
            recorded?;
        }
        // Checked last, so that callers without a secret do not learn which services exist.
        let issuer = self.issuer.for_audience(&self.db, audience).await?;
        issuer.issue(&user, &holdings, Bearer::Service(&account.client_id))
    }

    /// Refuses whoever is not the service of this client id; `None` where it is none.
    async fn refuse<T>(&self, context: &RequestContext, client_id: Option<&str>) -> Result<T, Error> {
        let audited: Result<(), Error> = write_tx!(self.db, |tx| {
            let now = self.clock.now();
            if let Some(client_id) = client_id
                && let Some(settled) = tx.settled(&self.clock).await?
            {
                // Of a secret whose time is over nothing is kept: the clock may be set back.
                store::service_account_forget_previous(tx, client_id, settled.past()).await?;
            }
            AuditEvent::new("service_account.token")
                .target("service_account", client_id.unwrap_or_default())
                .refused("CLIENT_CREDENTIALS_INVALID")
                .record(tx, context, now)
                .await?;
            Ok(())
        });
        audited?;
        Err(Error::ClientCredentialsInvalid)
    }

    /// Creates an account, and gives its secret, which is kept nowhere.
    pub(crate) async fn create(
        &self,
        context: &RequestContext,
        new: NewServiceAccount,
    ) -> Result<(AccountWithHoldings, SecretString), Error> {
        let event = AuditEvent::new("service_account.create").target("service_account", new.client_id.as_str());
        recording_refusals(self, context, event, async {
            // Tokens for the deployment would pass for tokens for this service alone.
            if new.client_id.as_str() == self.issuer.audience {
                return Err(InvalidFields::one("client_id", "must not be the name of the deployment").into());
            }
            create(&self.db, &self.clock, context, new).await
        })
        .await
    }

    /// An account by its client id.
    pub(crate) async fn get(&self, client_id: &str) -> Result<AccountWithHoldings, Error> {
        let mut conn = self.db.read().await?;
        let account = store::service_account_by_client_id(&mut conn, client_id).await?;
        describe(&mut conn, account.ok_or(Error::ServiceAccountNotFound)?).await
    }

    /// A page of accounts and the token of the next one.
    pub(crate) async fn list(
        &self,
        page: &PageRequest<UserKind>,
        query: &str,
    ) -> Result<(Vec<AccountWithHoldings>, String), Error> {
        let mut conn = self.db.read().await?;
        let mut accounts = store::service_accounts_list(&mut conn, page).await?;
        let next = page.cut(&mut accounts, query, |account| Position {
            time: account.create_time,
            id: account.user_id,
        });
        let mut described = Vec::with_capacity(accounts.len());
        for account in accounts {
            described.push(describe(&mut conn, account).await?);
        }
        Ok((described, next))
    }

    /// A new secret; the present one stays good for a while.
    pub(crate) async fn rotate_secret(
        &self,
        context: &RequestContext,
        client_id: &str,
        overlap: Duration,
    ) -> Result<(AccountWithHoldings, SecretString), Error> {
        let event = AuditEvent::new("service_account.rotate_secret").target("service_account", client_id);
        recording_refusals(self, context, event.clone(), async {
            let secret = generate_client_secret();
            let described: Result<_, Error> = write_tx!(self.db, |tx| {
                let account = self.lock(tx, client_id).await?;
                authority::ensure_may_act_on(tx, context, account.user_id).await?;
                let now = self.clock.now();
                let previous = (!overlap.is_zero()).then(|| (account.secret_hash.as_slice(), now.plus(overlap)));
                let hash = digest_of(secret.expose_secret());
                store::service_account_set_secret(tx, account.user_id, &hash, previous, now).await?;
                event
                    .concerning(account.user_id)
                    .detail("overlap_seconds", overlap.as_secs())
                    .record(tx, context, now)
                    .await?;
                let user_id = account.user_id;
                let account = store::service_account_by_client_id(tx, client_id).await?;
                let described = describe(tx, account.ok_or(Error::ServiceAccountNotFound)?).await?;
                if overlap.is_zero() {
                    // Whoever knew the secret has tokens, too.
                    let (_, stale) = revocation::make_stale(tx, user_id).await?;
                    feed::publish(tx, vec![stale], now).await?;
                }
                Ok(described)
            });
            Ok((described?, secret))
        })
        .await
    }

    /// Deletes an account. Its tokens are refused everywhere.
    pub(crate) async fn delete(&self, context: &RequestContext, client_id: &str) -> Result<(), Error> {
        let event = AuditEvent::new("service_account.delete").target("service_account", client_id);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                let account = self.lock(tx, client_id).await?;
                authority::ensure_may_act_on(tx, context, account.user_id).await?;
                authority::ensure_superuser_remains_without(tx, account.user_id).await?;
                lock_policies(tx).await?;
                let now = self.clock.now();
                // Whoever has the name next did not declare what this one did.
                store::resources_release(tx, client_id).await?;
                store::service_account_delete(tx, account.user_id).await?;
                store::user_anonymize(tx, account.user_id, now).await?;
                let (_, stale) = revocation::make_stale(tx, account.user_id).await?;
                event.concerning(account.user_id).record(tx, context, now).await?;
                feed::publish(tx, vec![stale, Change::UserDeleted(account.user_id)], now).await?;
                Ok(())
            })
        })
        .await
    }

    /// The account, whose user's row is locked.
    async fn lock(&self, tx: &mut Conn, client_id: &str) -> Result<ServiceAccount, Error> {
        let account = store::service_account_by_client_id(tx, client_id).await?;
        let user_id = account.ok_or(Error::ServiceAccountNotFound)?.user_id;
        store::user_lock(tx, user_id).await?;
        // Again, since it may have changed before the lock was ours.
        let account = store::service_account_by_client_id(tx, client_id).await?;
        account.ok_or(Error::ServiceAccountNotFound)
    }
}

/// Creates an account, and gives its secret, which is kept nowhere.
async fn create(
    db: &Db,
    clock: &Clock,
    context: &RequestContext,
    new: NewServiceAccount,
) -> Result<(AccountWithHoldings, SecretString), Error> {
    let secret = generate_client_secret();
    let described = write_tx!(db, |tx| {
        // Nobody makes, changes or deletes the roles and permissions meanwhile.
        lock_policies(tx).await?;
        if store::service_account_by_client_id(tx, new.client_id.as_str())
            .await?
            .is_some()
        {
            return Err(Error::ServiceAccountAlreadyExists);
        }
        for role in &new.roles {
            if !ReservedRole::Service.is(role) {
                authority::ensure_may_give_role(tx, context, role).await?;
            }
        }
        authority::ensure_may_give_beyond(tx, context, &new.permissions, ReservedRole::Service).await?;
        let hash = digest_of(secret.expose_secret());
        service_account_create(tx, context, &new, &hash, clock.now()).await
    });
    Ok((described?, secret))
}

/// Creates an account from the command line, and gives its secret.
pub(crate) async fn create_service_account(
    db: &Db,
    clock: &Clock,
    context: &RequestContext,
    new: NewServiceAccount,
) -> Result<SecretString, Error> {
    create(db, clock, context, new).await.map(|(_, secret)| secret)
}

/// Writes an account with this digest of its secret, and the user that stands for it.
pub(in crate::domain) async fn service_account_create(
    tx: &mut Conn,
    context: &RequestContext,
    new: &NewServiceAccount,
    secret_hash: &[u8],
    now: Timestamp,
) -> Result<AccountWithHoldings, Error> {
    let account = ServiceAccount {
        user_id: UserId::generate(),
        client_id: new.client_id.as_str().to_owned(),
        description: new.description.clone(),
        secret_hash: secret_hash.to_vec(),
        secret_time: now,
        previous_secret_hash: None,
        previous_expire_time: None,
        create_time: now,
        last_token_time: None,
    };
    store::service_user_insert(tx, account.user_id, &account.client_id, now).await?;
    store::service_account_insert(tx, &account).await.map_err(|error| {
        if error.is_unique_violation_of("service_accounts", "client_id") {
            Error::ServiceAccountAlreadyExists
        } else {
            error.into()
        }
    })?;
    set_holdings(tx, account.user_id, new).await?;
    AuditEvent::new("service_account.create")
        .target("service_account", &account.client_id)
        .concerning(account.user_id)
        .detail("roles", new.roles.join(" "))
        .detail("permissions", new.permissions.join(" "))
        .record(tx, context, now)
        .await?;
    describe(tx, account).await
}

/// Gives the service exactly these roles and permissions. Whether anything changed.
pub(in crate::domain) async fn set_holdings(
    tx: &mut Conn,
    user_id: UserId,
    wanted: &NewServiceAccount,
) -> Result<bool, Error> {
    let roles: BTreeSet<&str> = wanted.roles.iter().map(String::as_str).collect();
    let permissions: BTreeSet<&str> = wanted.permissions.iter().map(String::as_str).collect();
    let held = store::holdings(tx, user_id).await?;
    let held_roles: BTreeSet<&str> = held.roles.iter().map(String::as_str).collect();
    let held_permissions: BTreeSet<&str> = held.direct.iter().map(String::as_str).collect();
    if held.is_superuser() && !roles.contains(ReservedRole::Superuser.code_name()) {
        authority::ensure_superuser_remains_without(tx, user_id).await?;
    }
    for role in roles.difference(&held_roles) {
        if !store::user_role_assign(tx, user_id, role).await? {
            return Err(Error::RoleNotFound((*role).to_owned()));
        }
    }
    for role in held_roles.difference(&roles) {
        store::user_role_unassign(tx, user_id, role).await?;
    }
    for permission in permissions.difference(&held_permissions) {
        if !store::user_permission_grant(tx, user_id, permission).await? {
            return Err(Error::PermissionNotFound((*permission).to_owned()));
        }
    }
    for permission in held_permissions.difference(&permissions) {
        store::user_permission_revoke(tx, user_id, permission).await?;
    }
    authority::ensure_fits_token(tx, user_id, "permissions").await?;
    Ok(roles != held_roles || permissions != held_permissions)
}

async fn describe(conn: &mut Conn, account: ServiceAccount) -> Result<AccountWithHoldings, Error> {
    let holdings = store::holdings(conn, account.user_id).await?;
    Ok(AccountWithHoldings {
        account,
        roles: holdings.roles,
        permissions: holdings.direct,
    })
}
