//! Queries on `users` that recompute stored keys: the key of an address, and the text that searches
//! look through.

use base::{clock::Timestamp, ids::UserId};
use db::prelude::*;

use super::schema::users;

/// The names of a user and the keys that are stored with them.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = users)]
pub(crate) struct StoredKeys {
    pub(crate) id: UserId,
    pub(crate) login_folded: String,
    pub(crate) email: String,
    pub(crate) email_folded: String,
    pub(crate) email_is_taken: bool,
    pub(crate) first_name: String,
    pub(crate) middle_name: String,
    pub(crate) last_name: String,
    pub(crate) search_folded: String,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) is_service: bool,
    pub(crate) delete_time: Option<Timestamp>,
    pub(crate) key_time: Option<Timestamp>,
}

/// Selects users whose keys are stale or whose address is taken. This is the condition of the index
/// `users_stale_keys_idx`.
macro_rules! has_stale_keys {
    () => {
        users::key_time
            .is_null()
            .or(users::key_time.ne(users::update_time.nullable()))
            .or(users::email_is_taken)
    };
}

/// Returns at most `limit` users whose keys may have to be recomputed, oldest first, starting after
/// `after`.
pub(crate) async fn users_with_stale_keys(
    conn: &mut Conn,
    after: Option<(Timestamp, UserId)>,
    limit: i64,
) -> db::Result<Vec<StoredKeys>> {
    query!(conn, |c| {
        let mut stale = users::table
            .filter(has_stale_keys!())
            .order((users::create_time, users::id))
            .limit(limit)
            .select(StoredKeys::as_select())
            .into_boxed();
        if let Some((time, id)) = after {
            let tie = users::create_time.gt(time).or(users::id.gt(id));
            stale = stale.filter(users::create_time.ge(time).and(tie));
        }
        stale.load(c).await
    })
}

/// Reads the user again, if the keys may still have to be recomputed.
pub(crate) async fn user_stale_keys(conn: &mut Conn, id: UserId) -> db::Result<Option<StoredKeys>> {
    query!(conn, |c| users::table
        .find(id)
        .filter(has_stale_keys!())
        .select(StoredKeys::as_select())
        .first(c)
        .await
        .optional())
}

/// Stores the keys of `new`, unless the row has changed since `read`. Returns whether they were
/// stored.
pub(crate) async fn user_set_keys(conn: &mut Conn, read: &StoredKeys, new: &StoredKeys) -> db::Result<bool> {
    let unchanged = users::table
        .find(read.id)
        .filter(users::update_time.eq(read.update_time))
        .filter(users::email_folded.eq(&read.email_folded))
        .filter(users::email_is_taken.eq(read.email_is_taken));
    let update = diesel::update(unchanged).set((
        users::email_folded.eq(&new.email_folded),
        users::email_is_taken.eq(new.email_is_taken),
        users::search_folded.eq(&new.search_folded),
        users::key_time.eq(read.update_time),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|rows| rows == 1)
}

/// Clears what an older version of this program leaves behind when it writes the row, because it
/// does not know the columns: it may have changed the address, or deleted the user.
pub(crate) async fn user_forget_unknown_columns(conn: &mut Conn, user: &StoredKeys) -> db::Result<()> {
    let update = diesel::update(users::table.find(user.id)).set(users::email_verify_time.eq(None::<Timestamp>));
    query!(conn, |c| update.cached().execute(c).await)?;
    if user.delete_time.is_some() {
        let update = diesel::update(users::table.find(user.id)).set((
            users::locale.eq(""),
            users::invite_time.eq(None::<Timestamp>),
            users::min_password_expire_time.eq(None::<Timestamp>),
            users::is_guest.eq(false),
            users::has_second_factor.eq(false),
        ));
        query!(conn, |c| update.cached().execute(c).await)?;
        super::user::user_belongings_delete(conn, user.id).await?;
    }
    Ok(())
}

/// Takes a key from a stale user whose address it no longer belongs to. The row stays stale.
/// Returns whether the user still had the key.
pub(crate) async fn user_release_email_key(conn: &mut Conn, id: UserId, key: &str) -> db::Result<bool> {
    let holder = users::table
        .find(id)
        .filter(users::email_folded.eq(key))
        .filter(has_stale_keys!());
    let update = diesel::update(holder).set(users::email_folded.eq(super::taken_key(id)));
    query!(conn, |c| update.cached().execute(c).await).map(|rows| rows == 1)
}

/// Counts the users whose address is taken, and returns the ids of at most `limit`.
pub(crate) async fn users_with_taken_email(conn: &mut Conn, limit: i64) -> db::Result<(i64, Vec<UserId>)> {
    let count = query!(conn, |c| users::table
        .filter(users::email_is_taken)
        .count()
        .get_result(c)
        .await)?;
    let ids = query!(conn, |c| users::table
        .filter(users::email_is_taken)
        .order((users::create_time, users::id))
        .select(users::id)
        .limit(limit)
        .load(c)
        .await)?;
    Ok((count, ids))
}
