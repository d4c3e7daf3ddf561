//! The table `players`.

use access::view::FeedPosition;
use base::ids::UserId;
use db::prelude::*;

use super::schema::players;

/// Inserts a player. An existing row stays as it is.
pub(crate) async fn player_insert(conn: &mut Conn, id: UserId, login: &str) -> db::Result<()> {
    query!(conn, |c| {
        diesel::insert_into(players::table)
            .values((players::id.eq(id), players::login.eq(login)))
            .on_conflict_do_nothing()
            .execute(c)
            .await
    })
    .map(|_| ())
}

/// Inserts a player or updates the login, as given in an access token. A deleted player stays as it
/// is.
pub(crate) async fn player_upsert(conn: &mut Conn, id: UserId, login: &str) -> db::Result<()> {
    // For the WHERE of the upsert, so that an unchanged login is not written again.
    use diesel::query_dsl::methods::FilterDsl as _;
    query!(conn, |c| {
        diesel::insert_into(players::table)
            .values((players::id.eq(id), players::login.eq(login)))
            .on_conflict(players::id)
            .do_update()
            .set(players::login.eq(excluded(players::login)))
            .filter(players::login.ne(login).and(players::is_deleted.eq(false)))
            .cached()
            .execute(c)
            .await
    })
    .map(|_| ())
}

/// Inserts a player or updates the login, as received from the access feed at this position. A
/// deleted player stays as it is, and so does one whose login came from a later position.
pub(crate) async fn player_rename(conn: &mut Conn, id: UserId, login: &str, at: FeedPosition) -> db::Result<()> {
    use diesel::query_dsl::methods::FilterDsl as _;
    let said = (
        players::login.eq(login),
        players::name_epoch.eq(at.epoch),
        players::name_sequence.eq(at.sequence),
    );
    let is_newer = players::name_epoch
        .is_null()
        .or(players::name_epoch.ne(at.epoch))
        .or(players::name_sequence.lt(at.sequence));
    query!(conn, |c| {
        diesel::insert_into(players::table)
            .values((players::id.eq(id), said))
            .on_conflict(players::id)
            .do_update()
            .set(said)
            .filter(players::is_deleted.eq(false).and(is_newer.assume_not_null()))
            .cached()
            .execute(c)
            .await
    })
    .map(|_| ())
}

/// Marks a user as deleted and clears the login. Inserts the row if there is none.
pub(crate) async fn player_delete(conn: &mut Conn, id: UserId) -> db::Result<()> {
    let gone = (players::login.eq(""), players::is_deleted.eq(true));
    query!(conn, |c| {
        diesel::insert_into(players::table)
            .values((players::id.eq(id), players::login.eq(""), players::is_deleted.eq(true)))
            .on_conflict(players::id)
            .do_update()
            .set(gone)
            .cached()
            .execute(c)
            .await
    })
    .map(|_| ())
}

/// Locks the player's row until the transaction ends. Returns the login, and whether the user was
/// deleted.
pub(crate) async fn player_lock(conn: &mut Conn, id: UserId) -> db::Result<(String, bool)> {
    let player = players::table.find(id).select((players::login, players::is_deleted));
    let locked: Option<(String, bool)> = lock_row_but_its_key!(conn, player)?;
    locked.ok_or(db::Error::NotFound)
}

/// Returns the ids and logins of those users among these who have a row.
pub(crate) async fn players_by_ids(conn: &mut Conn, ids: &[UserId]) -> db::Result<Vec<(UserId, String)>> {
    query!(conn, |c| {
        players::table
            .filter(players::id.eq_any(ids))
            .select((players::id, players::login))
            .load(c)
            .await
    })
}
