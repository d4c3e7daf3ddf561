//! Administration of users.

use base::{
    clock::Timestamp,
    ids::{UserId, UserKind},
    page::{PageRequest, Position},
};
use db::{Conn, write_tx};

use crate::{
    domain::{
        audit::event::{AuditEvent, recording_refusals},
        error::Error,
        feed,
        passwords::queue::Client,
        rbac::{authority, grants::ensure_not_of_guests, lock::lock_policies},
        request_context::RequestContext,
        sessions::revocation,
        users::{
            accounts::Accounts,
            people::{person_by_identifier, user_lock_person},
            registration::{NewPassword, Registration, user_create},
        },
    },
    model::{ReservedRole, SessionEnd, User, UserFilter},
    store,
};

/// A user to create.
#[derive(Debug)]
pub(crate) struct NewAccount {
    /// Data of the user. The password is temporary.
    pub(crate) registration: Registration,
    /// Code names of the roles. If there are none, the user gets the role `player`.
    pub(crate) roles: Vec<String>,
}

/// A reference by which an administrator names a user.
#[derive(Clone, Debug)]
pub(crate) enum UserReference {
    /// The user with this id.
    Id(UserId),
    /// The user with the login or e-mail address that has this key.
    Identifier(String),
}

/// A user and the code names of their roles, sorted.
#[derive(Debug)]
pub(crate) struct UserWithRoles {
    pub(crate) user: User,
    pub(crate) roles: Vec<String>,
}

impl Accounts {
    /// Creates a user with a temporary password. Returns the user, and the time when the password
    /// expires.
    pub(crate) async fn create_user(
        &self,
        context: &RequestContext,
        new: NewAccount,
    ) -> Result<(UserWithRoles, Timestamp), Error> {
        let event = AuditEvent::new("user.create").target("user", "");
        recording_refusals(self, context, event, async {
            let roles = or_player(&new.roles);
            for role in &roles {
                ensure_not_of_guests(role)?;
            }
            let mut conn = self.db.read().await?;
            // Checked before the hash, which is expensive, and again below in the transaction.
            ensure_may_give_roles(&mut conn, context, &roles).await?;
            drop(conn);
            let client = context.user_id().map_or(Client::Own, Client::Recognized);
            let hash = self
                .hashing
                .hash(&client, new.registration.password.clone(), "password")
                .await?;
            write_tx!(self.db, |tx| {
                let now = self.clock.now();
                let password = NewPassword {
                    hash: &hash,
                    is_temporary: true,
                    min_expire_time: None,
                };
                let user = user_create(tx, &new.registration.person, password, now).await?;
                let roles = assign_roles(tx, context, user.id, &roles).await?;
                AuditEvent::new("user.create")
                    .user(user.id)
                    .detail("roles", roles.join(", "))
                    .record(tx, context, now)
                    .await?;
                Ok((UserWithRoles { user, roles }, now.plus(self.temporary_password_life)))
            })
        })
        .await
    }

    /// Finds a user who is not deleted.
    pub(crate) async fn user(&self, reference: &UserReference) -> Result<UserWithRoles, Error> {
        let mut conn = self.db.read().await?;
        let found = match reference {
            UserReference::Id(id) => store::user_by_id(&mut conn, *id).await?.filter(User::is_person),
            UserReference::Identifier(key) => person_by_identifier(&mut conn, key).await?,
        };
        let user = found.ok_or(Error::UserNotFound)?;
        let roles = store::user_role_names(&mut conn, user.id).await?;
        Ok(UserWithRoles { user, roles })
    }

    /// Lists a page of users, newest first, with the token of the next page. `query` identifies the
    /// list to which page tokens belong.
    pub(crate) async fn users(
        &self,
        page: &PageRequest<UserKind>,
        filter: &UserFilter,
        query: &str,
    ) -> Result<(Vec<User>, String), Error> {
        let mut conn = self.db.scan().await?;
        let mut users = store::users_list(&mut conn, page, filter).await?;
        let next = page.cut(&mut users, query, |user| Position {
            time: user.create_time,
            id: user.id,
        });
        Ok((users, next))
    }

    /// Clears the failures that were counted for a user, so that the next login need not wait.
    pub(crate) async fn unlock_user(&self, context: &RequestContext, id: UserId) -> Result<(), Error> {
        let event = AuditEvent::new("user.unlock").user(id);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                let user = user_lock_person(tx, id).await?;
                // Clearing the counters allows further guesses, which is a step towards acting as
                // this user.
                authority::ensure_may_act_on(tx, context, id).await?;
                self.attempts.forget(tx, &user).await?;
                event.record(tx, context, self.clock.now()).await?;
                Ok(())
            })
        })
        .await
    }

    /// Deactivates the user: ends every session, and refuses every token and login.
    pub(crate) async fn deactivate_user(&self, context: &RequestContext, id: UserId) -> Result<User, Error> {
        let event = AuditEvent::new("user.deactivate").user(id);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                let user = user_lock_person(tx, id).await?;
                authority::ensure_may_act_on(tx, context, id).await?;
                if !user.is_active {
                    feed::settle(tx).await?;
                    return Ok(user);
                }
                authority::ensure_not_last_superuser(tx, id).await?;
                let now = self.clock.now();
                let revoked = revocation::log_out_everywhere(tx, id, None, SessionEnd::UserDeactivated, now).await?;
                let user = store::user_set_active(tx, id, false).await?;
                event.record(tx, context, now).await?;
                feed::publish(tx, vec![revoked.change], now).await?;
                Ok(user)
            })
        })
        .await
    }

    /// Reactivates the user, who can then log in again. Earlier tokens and sessions stay invalid.
    pub(crate) async fn reactivate_user(&self, context: &RequestContext, id: UserId) -> Result<User, Error> {
        let event = AuditEvent::new("user.reactivate").user(id);
        recording_refusals(self, context, event.clone(), async {
            write_tx!(self.db, |tx| {
                let user = user_lock_person(tx, id).await?;
                authority::ensure_may_act_on(tx, context, id).await?;
                if user.is_active {
                    return Ok(user);
                }
                let user = store::user_set_active(tx, id, true).await?;
                event.record(tx, context, self.clock.now()).await?;
                Ok(user)
            })
        })
        .await
    }
}

/// Returns the roles of a new user: these, or else the role `player`.
pub(super) fn or_player(roles: &[String]) -> Vec<String> {
    if roles.is_empty() {
        vec![ReservedRole::Player.code_name().to_owned()]
    } else {
        roles.to_vec()
    }
}

/// Refuses to give away roles with permissions that the actor does not hold.
pub(super) async fn ensure_may_give_roles(
    conn: &mut Conn,
    context: &RequestContext,
    roles: &[String],
) -> Result<(), Error> {
    for role in roles {
        authority::ensure_may_give_role(conn, context, role).await?;
    }
    Ok(())
}

/// Gives a new user these roles, if the actor may. Returns their code names, sorted.
pub(super) async fn assign_roles(
    tx: &mut Conn,
    context: &RequestContext,
    user_id: UserId,
    roles: &[String],
) -> Result<Vec<String>, Error> {
    // The lock keeps roles and permissions from changing in the meantime.
    lock_policies(tx).await?;
    for role in roles {
        authority::ensure_may_give_role(tx, context, role).await?;
        if !store::user_role_assign(tx, user_id, role).await? {
            return Err(Error::RoleNotFound(role.clone()));
        }
    }
    authority::ensure_fits_token(tx, user_id, "roles").await?;
    Ok(store::user_role_names(tx, user_id).await?)
}
