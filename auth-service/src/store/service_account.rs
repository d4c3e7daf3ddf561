//! Queries on `service_accounts`.

use base::{
    clock::Timestamp,
    ids::{UserId, UserKind},
    page::PageRequest,
};
use db::prelude::*;

use super::{
    columns::columns,
    schema::{service_accounts, users},
};
use crate::model::ServiceAccount;

columns!(insertable ServiceAccount in service_accounts {
    user_id: UserId,
    client_id: String,
    description: String,
    secret_hash: Vec<u8>,
    secret_time: Timestamp,
    previous_secret_hash: Option<Vec<u8>>,
    previous_expire_time: Option<Timestamp>,
    create_time: Timestamp,
    last_token_time: Option<Timestamp>,
});

pub(crate) async fn service_account_insert(conn: &mut Conn, account: &ServiceAccount) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(service_accounts::table)
        .values(account)
        .execute(c)
        .await)
    .map(|_| ())
}

/// Finds a service account. Deleted accounts have no row.
pub(crate) async fn service_account_by_client_id(
    conn: &mut Conn,
    client_id: &str,
) -> db::Result<Option<ServiceAccount>> {
    query!(conn, |c| service_accounts::table
        .filter(service_accounts::client_id.eq(client_id))
        .select(ServiceAccount::as_select())
        .first(c)
        .await
        .optional())
}

/// Lists a page of accounts, newest first.
pub(crate) async fn service_accounts_list(
    conn: &mut Conn,
    page: &PageRequest<UserKind>,
) -> db::Result<Vec<ServiceAccount>> {
    query!(conn, |c| {
        let mut listed = service_accounts::table
            .order((service_accounts::create_time.desc(), service_accounts::user_id.desc()))
            .select(ServiceAccount::as_select())
            .limit(page.limit())
            .into_boxed();
        if let Some(after) = page.after {
            listed = listed.filter(
                service_accounts::create_time
                    .lt(after.time)
                    .or(service_accounts::create_time
                        .eq(after.time)
                        .and(service_accounts::user_id.lt(after.id))),
            );
        }
        listed.load(c).await
    })
}

/// Stores a new secret. `previous` is the digest of the old secret and the time until which it is
/// accepted.
pub(crate) async fn service_account_set_secret(
    conn: &mut Conn,
    user_id: UserId,
    secret_hash: &[u8],
    previous: Option<(&[u8], Timestamp)>,
    now: Timestamp,
) -> db::Result<()> {
    let update = diesel::update(service_accounts::table.find(user_id)).set((
        service_accounts::secret_hash.eq(secret_hash),
        service_accounts::secret_time.eq(now),
        service_accounts::previous_secret_hash.eq(previous.map(|(hash, _)| hash)),
        service_accounts::previous_expire_time.eq(previous.map(|(_, until)| until)),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn service_account_describe(conn: &mut Conn, user_id: UserId, description: &str) -> db::Result<()> {
    let update =
        diesel::update(service_accounts::table.find(user_id)).set(service_accounts::description.eq(description));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Deletes the digest of the previous secret if that is no longer accepted.
pub(crate) async fn service_account_forget_previous(
    conn: &mut Conn,
    client_id: &str,
    now: Timestamp,
) -> db::Result<()> {
    let over = service_accounts::table
        .filter(service_accounts::client_id.eq(client_id))
        .filter(service_accounts::previous_expire_time.le(now));
    let update = diesel::update(over).set((
        service_accounts::previous_secret_hash.eq(None::<Vec<u8>>),
        service_accounts::previous_expire_time.eq(None::<Timestamp>),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn service_account_record_token(conn: &mut Conn, user_id: UserId, now: Timestamp) -> db::Result<()> {
    let update = diesel::update(service_accounts::table.find(user_id)).set(service_accounts::last_token_time.eq(now));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Deletes the account. The user that represents it remains, because the audit log refers to it.
pub(crate) async fn service_account_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    query!(conn, |c| diesel::delete(service_accounts::table.find(user_id))
        .execute(c)
        .await)
    .map(|_| ())
}

/// Inserts the user that represents a service. Nobody can log in as this user.
pub(crate) async fn service_user_insert(
    conn: &mut Conn,
    id: UserId,
    client_id: &str,
    now: Timestamp,
) -> db::Result<()> {
    // Neither a login nor the key of an address contains a colon, so this takes no person's name.
    let folded = format!("service:{client_id}:{id}");
    let values = (
        users::id.eq(id),
        users::login.eq(client_id),
        users::login_folded.eq(&folded),
        users::email.eq(""),
        users::email_folded.eq(&folded),
        users::password_hash.eq(""),
        users::first_name.eq(""),
        users::last_name.eq(""),
        users::middle_name.eq(""),
        users::is_active.eq(true),
        users::is_service.eq(true),
        users::token_version.eq(1),
        users::create_time.eq(now),
        users::update_time.eq(now),
        users::key_time.eq(now),
    );
    query!(conn, |c| diesel::insert_into(users::table)
        .values(&values)
        .execute(c)
        .await)
    .map(|_| ())
}
