//! `signing_keys`.

use base::clock::Timestamp;
use db::{prelude::*, text_enum};

use super::schema::signing_keys;

/// A signing key as it is stored.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys)]
pub(crate) struct SigningKeyRow {
    pub(crate) kid: String,
    pub(crate) state: KeyState,
    pub(crate) public_key: Vec<u8>,
    pub(crate) encrypted_private_key: Vec<u8>,
    pub(crate) create_time: Timestamp,
    pub(crate) activate_time: Timestamp,
    pub(crate) retire_time: Option<Timestamp>,
    pub(crate) expire_time: Option<Timestamp>,
}

text_enum! {
    /// The present use of a key.
    pub(crate) enum KeyState {
        /// It is published and does not sign yet.
        Next = "next",
        /// It signs.
        Active = "active",
        /// It signs no more.
        Retired = "retired",
    }
}

/// The oldest first.
pub(crate) async fn signing_keys_list(conn: &mut Conn) -> db::Result<Vec<SigningKeyRow>> {
    query!(conn, |c| {
        signing_keys::table
            .order((signing_keys::create_time, signing_keys::kid))
            .select(SigningKeyRow::as_select())
            .load(c)
            .await
    })
}

/// Stores the same private key under another encryption.
pub(crate) async fn signing_key_reencrypt(conn: &mut Conn, kid: &str, encrypted: &[u8]) -> db::Result<()> {
    let update = diesel::update(signing_keys::table.find(kid)).set(signing_keys::encrypted_private_key.eq(encrypted));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn signing_key_insert(conn: &mut Conn, row: &SigningKeyRow) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(signing_keys::table)
        .values(row)
        .execute(c)
        .await)
    .map(|_| ())
}

pub(crate) async fn signing_key_delete(conn: &mut Conn, kid: &str) -> db::Result<()> {
    query!(conn, |c| diesel::delete(signing_keys::table.find(kid)).execute(c).await).map(|_| ())
}

/// Lets the key sign. No other may at that moment.
pub(crate) async fn signing_key_activate(conn: &mut Conn, kid: &str, now: Timestamp) -> db::Result<()> {
    let update = diesel::update(signing_keys::table.find(kid)).set((
        signing_keys::state.eq(KeyState::Active),
        signing_keys::activate_time.eq(now),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Lets the key sign no more. It is published until its last token is dead.
pub(crate) async fn signing_key_retire(
    conn: &mut Conn,
    kid: &str,
    now: Timestamp,
    expire_time: Timestamp,
) -> db::Result<()> {
    let update = diesel::update(signing_keys::table.find(kid)).set((
        signing_keys::state.eq(KeyState::Retired),
        signing_keys::retire_time.eq(now),
        signing_keys::expire_time.eq(expire_time),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}
