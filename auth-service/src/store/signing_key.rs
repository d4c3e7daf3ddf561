//! `signing_keys`.

use shared::db::prelude::*;
use shared::{clock::Timestamp, db};

use super::schema::signing_keys;

/// A signing key as it is stored.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys)]
pub(crate) struct SigningKeyRow {
    pub(crate) kid: String,
    pub(crate) state: String,
    pub(crate) public_key: Vec<u8>,
    pub(crate) encrypted_private_key: Vec<u8>,
    pub(crate) create_time: Timestamp,
    pub(crate) activate_time: Timestamp,
    pub(crate) retire_time: Option<Timestamp>,
    pub(crate) expire_time: Option<Timestamp>,
}

/// What a key is for at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    /// It signs.
    Active,
}

impl KeyState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
        }
    }
}

pub(crate) async fn signing_keys_list(conn: &mut Conn) -> db::Result<Vec<SigningKeyRow>> {
    query!(conn, |c| {
        signing_keys::table
            .order(signing_keys::create_time)
            .select(SigningKeyRow::as_select())
            .load(c)
            .await
    })
}

/// Stores the same private key under another encryption.
pub(crate) async fn signing_key_reencrypt(conn: &mut Conn, kid: &str, encrypted: &[u8]) -> db::Result<()> {
    let update = diesel::update(signing_keys::table.find(kid)).set(signing_keys::encrypted_private_key.eq(encrypted));
    query!(conn, |c| update.execute(c).await).map(|_| ())
}

pub(crate) async fn signing_key_insert(conn: &mut Conn, row: &SigningKeyRow) -> db::Result<()> {
    query!(conn, |c| diesel::insert_into(signing_keys::table)
        .values(row)
        .execute(c)
        .await)
    .map(|_| ())
}
