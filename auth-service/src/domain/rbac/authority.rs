//! The authority that one user has over others: you cannot give or take away a permission that you
//! do not hold, nor act on a user or a role that holds more than you do. Only superusers act on
//! superusers.
//!
//! Permissions that every registered user or every guest holds are left out of the comparison, so
//! that support staff can act on players. The database decides, not the caller's token.

use std::collections::BTreeSet;

use access::token::{MAX_TOKEN_LEN, TokenError};
use base::{ids::UserId, validate::InvalidFields};
use db::Conn;

use crate::{
    domain::{
        error::Error,
        request_context::{Actor, RequestContext},
    },
    model::{Holdings, ReservedRole, covers},
    store,
};

/// Maximum size of the names of roles and direct grants in an access token, in bytes. In base64 and
/// with all other claims, the token is then shorter than verifiers accept ([`MAX_TOKEN_LEN`]).
const MAX_HOLDINGS_LEN: usize = MAX_TOKEN_LEN * 5 / 8;

/// Roles that users get when they register. Their permissions can be given without being held.
const EVERYBODY: &[ReservedRole] = &[ReservedRole::Player, ReservedRole::Guest];

/// Refuses an actor whose token was revoked after the call was admitted. This replica may not have
/// noticed the revocation yet, or it happened while the call waited.
pub(in crate::domain) async fn ensure_still_good(conn: &mut Conn, context: &RequestContext) -> Result<(), Error> {
    let Some(principal) = context.principal() else {
        return Ok(());
    };
    let user = store::user_by_id(conn, principal.user_id()).await?;
    let user = user.filter(|user| user.is_active && !user.is_deleted());
    if user.is_none_or(|user| principal.token_version() < user.token_version) {
        return Err(TokenError::Stale.into());
    }
    if let Some(id) = principal.session_id() {
        let session = store::session_by_id(conn, id).await?;
        if session.is_none_or(|session| session.has_ended()) {
            return Err(TokenError::Revoked.into());
        }
    }
    Ok(())
}

/// Returns what the actor holds, or `None` for actors without limits: the command line, and the
/// service itself.
async fn holdings_of_actor(conn: &mut Conn, context: &RequestContext) -> Result<Option<Holdings>, Error> {
    ensure_still_good(conn, context).await?;
    match &context.actor {
        Actor::CommandLine | Actor::Itself => Ok(None),
        Actor::Principal(principal) => Ok(Some(store::holdings(conn, principal.user_id()).await?)),
        Actor::Anonymous => Err(Error::SuperuserRequired),
    }
}

/// Refuses a user whose roles and direct grants do not fit into an access token. A token carries
/// all their names, and verifiers refuse a token that is too long. `field` is the field of the
/// request that the error names.
pub(in crate::domain) async fn ensure_fits_token(
    tx: &mut Conn,
    user_id: UserId,
    field: &'static str,
) -> Result<(), Error> {
    let holdings = store::holdings(tx, user_id).await?;
    // Each name is quoted and followed by a comma.
    let len: usize = holdings
        .roles
        .iter()
        .chain(&holdings.direct)
        .map(|name| name.len() + 3)
        .sum();
    if len > MAX_HOLDINGS_LEN {
        let why = "would make the user's access tokens too long; use one role that holds all the permissions";
        return Err(InvalidFields::one(field, why).into());
    }
    Ok(())
}

/// Refuses users who are not superusers.
pub(in crate::domain) async fn ensure_superuser(conn: &mut Conn, context: &RequestContext) -> Result<(), Error> {
    match holdings_of_actor(conn, context).await? {
        Some(holdings) if !holdings.is_superuser() => Err(Error::SuperuserRequired),
        _ => Ok(()),
    }
}

/// Lets only superusers act on a superuser. Users may act on themselves.
pub(in crate::domain) async fn ensure_superuser_to_act_on_superuser(
    conn: &mut Conn,
    context: &RequestContext,
    target: UserId,
) -> Result<(), Error> {
    ensure_still_good(conn, context).await?;
    let roles = store::user_role_names(conn, target).await?;
    if context.user_id() == Some(target) || !roles.iter().any(|role| ReservedRole::Superuser.is(role)) {
        return Ok(());
    }
    ensure_superuser(conn, context).await
}

/// Refuses to give away permissions that the actor does not hold, except those of the roles in
/// [`EVERYBODY`].
pub(in crate::domain) async fn ensure_may_give(
    conn: &mut Conn,
    context: &RequestContext,
    permissions: &[String],
) -> Result<(), Error> {
    ensure_may_give_beyond(conn, context, permissions, EVERYBODY).await
}

/// Refuses to give away permissions that the actor does not hold, except those of the roles in
/// `usual`.
pub(in crate::domain) async fn ensure_may_give_beyond(
    conn: &mut Conn,
    context: &RequestContext,
    permissions: &[String],
    usual: &[ReservedRole],
) -> Result<(), Error> {
    let Some(holdings) = holdings_of_actor(conn, context).await? else {
        return Ok(());
    };
    let mut excepted = Vec::new();
    for role in usual {
        excepted.extend(store::role_permission_names(conn, role.code_name()).await?);
    }
    let lacking: BTreeSet<String> = permissions
        .iter()
        .filter(|permission| !holdings.holds(permission) && !excepted.iter().any(|held| covers(held, permission)))
        .cloned()
        .collect();
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(Error::GrantExceedsOwn(lacking.into_iter().collect()))
    }
}

/// Refuses to give away a role with permissions that the actor does not hold. Only superusers may
/// give away their own role.
pub(in crate::domain) async fn ensure_may_give_role(
    conn: &mut Conn,
    context: &RequestContext,
    code_name: &str,
) -> Result<(), Error> {
    if ReservedRole::Superuser.is(code_name) {
        return ensure_superuser(conn, context).await;
    }
    let permissions = store::role_permission_names(conn, code_name).await?;
    ensure_may_give(conn, context, &permissions).await
}

/// Refuses to change a role with permissions that the actor does not hold.
pub(in crate::domain) async fn ensure_may_change_role(
    conn: &mut Conn,
    context: &RequestContext,
    code_name: &str,
) -> Result<(), Error> {
    ensure_may_give_role(conn, context, code_name).await
}

/// Refuses to act on a user or a service account that has permissions that the actor does not hold.
/// To act on a user means to set their password or secret, edit, deactivate, delete or log them
/// out, or take a role or permission from them. Users may act on themselves.
pub(in crate::domain) async fn ensure_may_act_on(
    conn: &mut Conn,
    context: &RequestContext,
    target: UserId,
) -> Result<(), Error> {
    ensure_still_good(conn, context).await?;
    if context.user_id() == Some(target) {
        return Ok(());
    }
    let user = store::user_by_id(conn, target).await?;
    let usual = if user.is_some_and(|user| user.is_service) {
        &[ReservedRole::Service][..]
    } else {
        EVERYBODY
    };
    let holdings = store::holdings(conn, target).await?;
    if holdings.is_superuser() {
        return ensure_superuser(conn, context).await;
    }
    let permissions: Vec<String> = holdings.names().map(str::to_owned).collect();
    ensure_may_give_beyond(conn, context, &permissions, usual).await
}

/// Fails if this user is the last active superuser. Must be called before the user is deactivated,
/// deleted or loses the role. Concurrent callers wait for each other here.
pub(in crate::domain) async fn ensure_not_last_superuser(tx: &mut Conn, user_id: UserId) -> Result<(), Error> {
    let roles = store::user_role_names(tx, user_id).await?;
    if !roles.iter().any(|role| ReservedRole::Superuser.is(role)) {
        return Ok(());
    }
    store::role_lock(tx, ReservedRole::Superuser).await?;
    if store::other_active_user_has_role(tx, user_id, ReservedRole::Superuser).await? {
        Ok(())
    } else {
        Err(Error::LastAdmin)
    }
}
