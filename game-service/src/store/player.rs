//! `players`.

use shared::{
    db::{self, prelude::*},
    ids::UserId,
};

use super::schema::players;

/// Notes that this user plays, and by which login.
pub(crate) async fn player_upsert(conn: &mut Conn, id: UserId, login: &str) -> db::Result<()> {
    // The WHERE of an upsert: what has not changed is not written again.
    use diesel::query_dsl::methods::FilterDsl as _;
    query!(conn, |c| {
        diesel::insert_into(players::table)
            .values((players::id.eq(id), players::login.eq(login)))
            .on_conflict(players::id)
            .do_update()
            .set(players::login.eq(excluded(players::login)))
            .filter(players::login.ne(login))
            .execute(c)
            .await
    })
    .map(|_| ())
}

/// Locks the player's row until the transaction ends.
pub(crate) async fn player_lock(conn: &mut Conn, id: UserId) -> db::Result<()> {
    let locked: Option<UserId> = lock_row!(conn, players::table.find(id).select(players::id))?;
    locked.map(|_| ()).ok_or(db::Error::NotFound)
}

/// Ids and logins of those of these users who have played.
pub(crate) async fn players_by_ids(conn: &mut Conn, ids: &[UserId]) -> db::Result<Vec<(UserId, String)>> {
    query!(conn, |c| {
        players::table
            .filter(players::id.eq_any(ids))
            .select((players::id, players::login))
            .load(c)
            .await
    })
}
