//! Queries on `account_codes`.

use base::{clock::Timestamp, ids::UserId};
use db::prelude::*;

use super::{columns::columns, schema::account_codes};
use crate::model::{AccountCode, CodePurpose};

columns!(insertable AccountCode in account_codes {
    user_id: UserId,
    purpose: CodePurpose,
    seed: Vec<u8>,
    typed_tries: i64,
    create_time: Timestamp,
    expire_time: Timestamp,
    email: Option<String>,
});

/// Reads the user's code for this purpose. The caller has locked the user's row.
pub(crate) async fn account_code(
    conn: &mut Conn,
    user_id: UserId,
    purpose: CodePurpose,
) -> db::Result<Option<AccountCode>> {
    query!(conn, |c| account_codes::table
        .find((user_id, purpose))
        .select(AccountCode::as_select())
        .first(c)
        .await
        .optional())
}

/// Stores a code in place of the one that the user has for the same purpose.
pub(crate) async fn account_code_replace(conn: &mut Conn, code: &AccountCode) -> db::Result<()> {
    let replace = diesel::insert_into(account_codes::table)
        .values(code)
        .on_conflict((account_codes::user_id, account_codes::purpose))
        .do_update()
        .set((
            account_codes::seed.eq(excluded(account_codes::seed)),
            account_codes::typed_tries.eq(excluded(account_codes::typed_tries)),
            account_codes::create_time.eq(excluded(account_codes::create_time)),
            account_codes::expire_time.eq(excluded(account_codes::expire_time)),
            account_codes::email.eq(excluded(account_codes::email)),
        ));
    query!(conn, |c| replace.cached().execute(c).await).map(|_| ())
}

/// Counts `tries` tries of the short form of the user's code, and returns the code with them.
pub(crate) async fn account_code_count_tries(
    conn: &mut Conn,
    user_id: UserId,
    purpose: CodePurpose,
    tries: i64,
) -> db::Result<Option<AccountCode>> {
    let update = diesel::update(account_codes::table.find((user_id, purpose)))
        .set(account_codes::typed_tries.eq(account_codes::typed_tries + tries));
    query!(conn, |c| update
        .returning(AccountCode::as_returning())
        .cached()
        .get_result(c)
        .await
        .optional())
}

/// Deletes the user's code for this purpose.
pub(crate) async fn account_code_delete(conn: &mut Conn, user_id: UserId, purpose: CodePurpose) -> db::Result<()> {
    let delete = diesel::delete(account_codes::table.find((user_id, purpose)));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Deletes all codes of the user.
pub(crate) async fn account_codes_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let delete = diesel::delete(account_codes::table.filter(account_codes::user_id.eq(user_id)));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Returns at most `limit` codes that had expired by `now`, the oldest first.
pub(crate) async fn account_codes_expired(
    conn: &mut Conn,
    now: Timestamp,
    limit: i64,
) -> db::Result<Vec<(UserId, CodePurpose)>> {
    query!(conn, |c| account_codes::table
        .filter(account_codes::expire_time.le(now))
        .order(account_codes::expire_time)
        .limit(limit)
        .select((account_codes::user_id, account_codes::purpose))
        .load(c)
        .await)
}

/// Deletes the code if it had expired by `now`.
pub(crate) async fn account_code_delete_expired(
    conn: &mut Conn,
    (user_id, purpose): (UserId, CodePurpose),
    now: Timestamp,
) -> db::Result<()> {
    let expired = account_codes::table
        .find((user_id, purpose))
        .filter(account_codes::expire_time.le(now));
    query!(conn, |c| diesel::delete(expired).execute(c).await).map(|_| ())
}
