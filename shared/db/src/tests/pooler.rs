//! Access to a database both through a pooler and past it. Here both URLs lead to the server
//! itself; `deploy/tests/test_poolers.py` tests PgBouncer.

use std::time::{Duration, Instant};

use base::testing::block_on;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    postgres::{execute, pid},
    *,
};
use crate::{Backend, DatabaseSettings, Db, Error, MigrateError, MigrationLock, PoolerError, testing::TestDatabase};

#[derive(QueryableByName)]
struct Limit {
    #[diesel(sql_type = diesel::sql_types::Text)]
    limit: String,
}

/// Returns the server's current limit on statements.
async fn limit(conn: &mut Conn) -> String {
    let row: Result<Limit> = query!(conn, |c| diesel::sql_query(
        "SELECT current_setting('statement_timeout') AS limit"
    )
    .get_result(c)
    .await);
    row.unwrap().limit
}

fn pooled(url: &str, direct: &str) -> DatabaseSettings {
    DatabaseSettings {
        direct_url: Some(direct.parse().unwrap()),
        max_connections: 1,
        statement_timeout: Duration::from_millis(200),
        ..DatabaseSettings::new(url.parse().unwrap())
    }
}

#[test]
fn transaction_limits_do_not_leak_into_the_session() {
    block_on(async {
        let database = TestDatabase::create_empty(Backend::Postgres).await;
        let db = Db::connect(&pooled(database.url(), database.url())).await.unwrap();
        let mut snapshot = db.snapshot().await.unwrap();
        assert_eq!(limit(snapshot.conn()).await, "200ms");
        snapshot.end().await;

        let mut transaction = db.begin().await.unwrap();
        let before = pid(transaction.conn()).await;
        let outcome = execute(transaction.conn(), "SELECT pg_sleep(60)").await;
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
        transaction.rollback().await;

        let mut conn = db.read().await.unwrap();
        assert_eq!((limit(&mut conn).await, pid(&mut conn).await), ("0".to_owned(), before));
    });
}

#[test]
fn the_two_urls_must_lead_to_one_database() {
    block_on(async {
        let (database, other) = (
            TestDatabase::create_empty(Backend::Postgres).await,
            TestDatabase::create_empty(Backend::Postgres).await,
        );
        let db = Db::connect(&pooled(database.url(), other.url())).await.unwrap();
        let error = MigrationLock::acquire(&db).await.map(drop).unwrap_err();
        assert!(
            matches!(error, MigrateError::Pooler(PoolerError::OtherDatabase)),
            "{error:?}"
        );
        let db = Db::connect(&pooled(database.url(), database.url())).await.unwrap();
        MigrationLock::acquire(&db).await.unwrap();
    });
}

/// Behind a pooler, the limit on statements is set for the role or the database. Migrations may
/// take longer than that.
#[test]
fn limits_of_the_database_do_not_hold_for_migrations() {
    block_on(async {
        let database = TestDatabase::create_empty(Backend::Postgres).await;
        let mut conn = database.db().write().await.unwrap();
        execute(
            &mut conn,
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 50', current_database()); END $$",
        )
        .await
        .unwrap();
        let db = Db::connect(&pooled(database.url(), database.url())).await.unwrap();
        let held = MigrationLock::acquire(&db).await.unwrap();
        let start = Instant::now();
        let waiting = tokio::time::timeout(Duration::from_millis(300), MigrationLock::acquire(&db)).await;
        assert!(waiting.is_err(), "{:?}", start.elapsed());
        drop(held);
        MigrationLock::acquire(&db).await.unwrap();
        assert_eq!(limit(&mut db.read().await.unwrap()).await, "50ms");
    });
}

#[test]
fn a_start_waits_until_both_urls_are_reachable() {
    block_on(async {
        let database = TestDatabase::create_empty(Backend::Postgres).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = format!("postgres://kim@{}/test", listener.local_addr().unwrap());
        drop(listener);
        let db = Db::connect(&pooled(database.url(), &nobody)).await.unwrap();
        db.ping().await.unwrap();
        let stop = CancellationToken::new();
        let waits = tokio::time::timeout(Duration::from_millis(100), db.wait_until_available(&stop)).await;
        assert!(waits.is_err());
        let db = Db::connect(&pooled(database.url(), database.url())).await.unwrap();
        assert!(db.wait_until_available(&stop).await);
    });
}
