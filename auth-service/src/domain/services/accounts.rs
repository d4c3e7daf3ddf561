//! The accounts of other services: a client id, and a secret with which a service gets access
//! tokens (RFC 6749, section 4.4).
//!
//! A secret has 256 random bits and cannot be guessed, so only a plain digest is stored. A slow
//! hash would not protect it better, and would let anyone keep the hashing pool busy.

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
        rbac::{authority, grants::ensure_not_of_guests, lock::lock_policies},
        refusals::refused_in_steps,
        request_context::RequestContext,
        services::client_id::ClientId,
        sessions::revocation,
        tokens::access::{AccessToken, Bearer, Issuer, RequestedAudience},
    },
    model::{ReservedRole, ServiceAccount},
    store,
};

const SECRET_BYTES: usize = 32;
/// Precision with which the time of the last token is stored, so that not every token costs a
/// write.
const LAST_TOKEN_PRECISION: Duration = Duration::from_mins(1);
/// The use cases of service accounts.
#[derive(Clone, Debug)]
pub(crate) struct ServiceAccounts {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) issuer: Issuer,
    pub(crate) attempts: Attempts,
}

/// An account and what it holds.
#[derive(Debug)]
pub(crate) struct AccountWithHoldings {
    pub(crate) account: ServiceAccount,
    /// Code names of the roles, sorted.
    pub(crate) roles: Vec<String>,
    /// Names of the permissions that are granted directly, sorted.
    pub(crate) permissions: Vec<String>,
}

/// An account to create.
#[derive(Clone, Debug)]
pub(crate) struct NewServiceAccount {
    pub(crate) client_id: ClientId,
    pub(crate) description: String,
    pub(crate) roles: Vec<String>,
    pub(crate) permissions: Vec<String>,
}

impl NewServiceAccount {
    /// Returns the default roles of an account.
    pub(crate) fn default_roles() -> Vec<String> {
        vec![ReservedRole::Service.code_name().to_owned()]
    }
}

/// Returns a new random secret.
pub fn generate_client_secret() -> SecretString {
    let mut bytes = [0; SECRET_BYTES];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    SecretString::from(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Returns the stored form of a secret: its SHA-256.
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
    /// Issues an access token to the service with this secret.
    pub(crate) async fn issue_token(
        &self,
        context: &RequestContext,
        (client_id, secret): (&str, &str),
        audience: &RequestedAudience,
    ) -> Result<AccessToken, Error> {
        // A secret cannot be guessed. This limits the work.
        self.attempts.admit_login(context)?;
        refused_in_steps(self.attempt_issue(context, (client_id, secret), audience)).await
    }

    async fn attempt_issue(
        &self,
        context: &RequestContext,
        (client_id, secret): (&str, &str),
        audience: &RequestedAudience,
    ) -> Result<AccessToken, Error> {
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

    /// Refuses a caller who is not the service with this client id, and records that in the audit
    /// log. The client id is `None` if it is malformed.
    async fn refuse<T>(&self, context: &RequestContext, client_id: Option<&str>) -> Result<T, Error> {
        let audited: Result<(), Error> = write_tx!(self.db, |tx| {
            let now = self.clock.now();
            if let Some(client_id) = client_id
                && let Some(settled) = tx.settled(&self.clock).await?
            {
                // The previous secret is deleted once it has expired, so that it is not accepted
                // again if the clock is set back.
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

    /// Creates an account. Returns it with its secret, of which only a digest is stored.
    pub(crate) async fn create(
        &self,
        context: &RequestContext,
        new: NewServiceAccount,
    ) -> Result<(AccountWithHoldings, SecretString), Error> {
        let event = AuditEvent::new("service_account.create").target("service_account", new.client_id.as_str());
        recording_refusals(self, context, event, async {
            // Tokens for the deployment would pass for tokens for this service only.
            if new.client_id.as_str() == self.issuer.audience {
                return Err(InvalidFields::one("client_id", "must not be the name of the deployment").into());
            }
            create(&self.db, &self.clock, context, new).await
        })
        .await
    }

    /// Finds an account by its client id.
    pub(crate) async fn get(&self, client_id: &str) -> Result<AccountWithHoldings, Error> {
        let mut conn = self.db.read().await?;
        let account = store::service_account_by_client_id(&mut conn, client_id).await?;
        describe(&mut conn, account.ok_or(Error::ServiceAccountNotFound)?).await
    }

    /// Lists a page of accounts, with the token of the next page.
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

    /// Replaces the secret. The old one is accepted for the time `overlap`. If that is zero, the
    /// tokens of the service are refused as well.
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
                    // Anyone who knew the secret has tokens, too.
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
                lock_policies(tx).await?;
                authority::ensure_may_act_on(tx, context, account.user_id).await?;
                authority::ensure_not_last_superuser(tx, account.user_id).await?;
                let now = self.clock.now();
                // The resources keep their owner: an account with the same client id may be created
                // again. Until then, administrators may delete them.
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

    /// Locks the row of the account's user, and returns the account.
    async fn lock(&self, tx: &mut Conn, client_id: &str) -> Result<ServiceAccount, Error> {
        let account = store::service_account_by_client_id(tx, client_id).await?;
        let user_id = account.ok_or(Error::ServiceAccountNotFound)?.user_id;
        store::user_lock(tx, user_id).await?;
        // Read again, because it may have changed before the lock was taken.
        let account = store::service_account_by_client_id(tx, client_id).await?;
        account.ok_or(Error::ServiceAccountNotFound)
    }
}

/// Creates an account. Returns it with its secret, of which only a digest is stored.
async fn create(
    db: &Db,
    clock: &Clock,
    context: &RequestContext,
    new: NewServiceAccount,
) -> Result<(AccountWithHoldings, SecretString), Error> {
    let secret = generate_client_secret();
    let described = write_tx!(db, |tx| {
        // The lock keeps roles and permissions from changing in the meantime.
        lock_policies(tx).await?;
        authority::ensure_still_good(tx, context).await?;
        if store::service_account_by_client_id(tx, new.client_id.as_str())
            .await?
            .is_some()
        {
            return Err(Error::ServiceAccountAlreadyExists);
        }
        for role in &new.roles {
            ensure_not_of_guests(role)?;
            if !ReservedRole::Service.is(role) {
                authority::ensure_may_give_role(tx, context, role).await?;
            }
        }
        authority::ensure_may_give_beyond(tx, context, &new.permissions, &[ReservedRole::Service]).await?;
        let hash = digest_of(secret.expose_secret());
        service_account_create(tx, context, &new, &hash, clock.now()).await
    });
    Ok((described?, secret))
}

/// Creates an account from the command line. Returns its secret.
pub(crate) async fn create_service_account(
    db: &Db,
    clock: &Clock,
    context: &RequestContext,
    new: NewServiceAccount,
) -> Result<SecretString, Error> {
    create(db, clock, context, new).await.map(|(_, secret)| secret)
}

/// Stores an account with this digest of its secret, and the user that represents it.
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

/// Gives the service exactly these roles and permissions. Returns whether anything changed.
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
        authority::ensure_not_last_superuser(tx, user_id).await?;
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
