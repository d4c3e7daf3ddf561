//! A small store, written like that of a service, and tests that use it on both backends.

mod announcements;
mod fail_over;
mod group_commit;
mod loader;
mod migrations;
mod notifications;
mod pooler;
mod postgres;
mod prepared;
mod sqlite;
mod tls;
mod transactions;
mod values;

use base::{clock::Timestamp, ids::UserId};
use diesel_migrations::embed_migrations;

use super::{Error, Migrations, Result, prelude::*};

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::*;

    accounts (id) {
        id -> Uuid,
        login -> Text,
        created -> Timestamp,
        seen -> Nullable<Timestamp>,
        inviter -> Nullable<Uuid>,
    }
}

diesel::table! {
    pairs (id) {
        id -> BigInt,
        a -> BigInt,
        b -> BigInt,
    }
}

pub(crate) static MIGRATIONS: Migrations = Migrations {
    sqlite: embed_migrations!("src/tests/migrations/sqlite"),
    postgres: embed_migrations!("src/tests/migrations/postgres"),
};

#[derive(Clone, Debug, PartialEq, Insertable, Queryable, Selectable)]
#[diesel(table_name = accounts)]
struct Account {
    id: UserId,
    login: String,
    created: Timestamp,
    seen: Option<Timestamp>,
    inviter: Option<UserId>,
}

impl Account {
    fn new(login: &str) -> Self {
        Self {
            id: UserId::generate(),
            login: login.to_owned(),
            created: Timestamp::from_micros(1),
            seen: None,
            inviter: None,
        }
    }
}

async fn account_insert(conn: &mut Conn, account: &Account) -> Result<()> {
    query!(conn, |c| diesel::insert_into(accounts::table)
        .values(account)
        .execute(c)
        .await)?;
    Ok(())
}

async fn account_by_id(conn: &mut Conn, id: UserId) -> Result<Option<Account>> {
    query!(conn, |c| accounts::table
        .find(id)
        .select(Account::as_select())
        .first(c)
        .await
        .optional())
}

async fn account_lock(conn: &mut Conn, id: UserId) -> Result<Option<Account>> {
    lock_row!(conn, accounts::table.find(id).select(Account::as_select()))
}

async fn account_rename(conn: &mut Conn, id: UserId, login: &str) -> Result<Option<Account>> {
    query!(conn, |c| diesel::update(accounts::table.find(id))
        .set(accounts::login.eq(login))
        .returning(Account::as_returning())
        .get_result(c)
        .await
        .optional())
}

async fn account_count(conn: &mut Conn) -> Result<i64> {
    query!(conn, |c| accounts::table.count().get_result(c).await)
}

async fn pair_insert(conn: &mut Conn, id: i64, a: i64, b: i64) -> Result<usize> {
    query!(conn, |c| diesel::insert_into(pairs::table)
        .values((pairs::id.eq(id), pairs::a.eq(a), pairs::b.eq(b)))
        .execute(c)
        .await)
}
