//! Queries on `signing_keys`.

use base::clock::Timestamp;
use db::prelude::*;

use super::{columns::columns, schema::signing_keys};
use crate::model::{KeyState, SigningKeyRecord};

columns!(insertable SigningKeyRecord in signing_keys {
    kid: String,
    state: KeyState,
    public_key: Vec<u8>,
    encrypted_private_key: Vec<u8>,
    create_time: Timestamp,
    activate_time: Timestamp,
    retire_time: Option<Timestamp>,
    expire_time: Option<Timestamp>,
});

/// Lists all keys, oldest first.
pub(crate) async fn signing_keys_list(conn: &mut Conn) -> db::Result<Vec<SigningKeyRecord>> {
    query!(conn, |c| {
        signing_keys::table
            .order((signing_keys::create_time, signing_keys::kid))
            .select(SigningKeyRecord::as_select())
            .load(c)
            .await
    })
}

/// Replaces the encrypted form of the private key. The key itself stays the same.
pub(crate) async fn signing_key_reencrypt(conn: &mut Conn, kid: &str, encrypted: &[u8]) -> db::Result<()> {
    let update = diesel::update(signing_keys::table.find(kid)).set(signing_keys::encrypted_private_key.eq(encrypted));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn signing_key_insert(conn: &mut Conn, key: &SigningKeyRecord) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(signing_keys::table)
        .values(key)
        .execute(c)
        .await)
    .map(|_| ())
}

pub(crate) async fn signing_key_delete(conn: &mut Conn, kid: &str) -> db::Result<()> {
    query!(conn, |c| diesel::delete(signing_keys::table.find(kid)).execute(c).await).map(|_| ())
}

/// Makes this the active key. There must not be another active key at that time.
pub(crate) async fn signing_key_activate(conn: &mut Conn, kid: &str, now: Timestamp) -> db::Result<()> {
    let update = diesel::update(signing_keys::table.find(kid)).set((
        signing_keys::state.eq(KeyState::Active),
        signing_keys::activate_time.eq(now),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Retires the key. It remains published until `expire_time`, when its last token has expired.
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
