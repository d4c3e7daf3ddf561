use base::testing::block_on;
use tokio::task::JoinSet;

use super::*;
use crate::{
    Backend, Db, MigrateError, MigrationLock, migrate, pending,
    testing::{TestDatabase, on_both_backends},
};

/// Migrations of an older version of the same program.
static OLDER: Migrations = Migrations {
    sqlite: embed_migrations!("src/tests/older/sqlite"),
    postgres: embed_migrations!("src/tests/older/postgres"),
};

/// Migrations of another service, one of which shares a version name with ours.
static ANOTHER: Migrations = Migrations {
    sqlite: embed_migrations!("src/tests/another/sqlite"),
    postgres: embed_migrations!("src/tests/another/postgres"),
};

const VERSIONS: [&str; 2] = ["20260101000000", "20260102000000"];

#[on_both_backends]
async fn a_newer_database_is_refused_untouched(database: TestDatabase) {
    for result in [
        migrate(database.db(), &OLDER).await,
        pending(database.db(), &OLDER).await,
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, MigrateError::Newer { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "the database was made by a newer version of this program \
             (schema 20260102000000, this program knows up to 20260101000000)"
        );
    }
}

#[on_both_backends]
async fn a_database_of_another_service_is_refused_untouched(database: TestDatabase) {
    for result in [
        migrate(database.db(), &ANOTHER).await,
        pending(database.db(), &ANOTHER).await,
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, MigrateError::Foreign { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "the database belongs to another service: the migration 20260102000000 was applied to it, which this \
             program does not know, and 20250101000000 was not; each service needs a database of its own \
             (--database-url)"
        );
    }
    let mut conn = database.db().read().await.unwrap();
    let table: Result<usize> = query!(&mut conn, |c| diesel::sql_query("SELECT * FROM before")
        .execute(c)
        .await);
    assert!(table.is_err());
}

#[on_both_backends]
async fn applied_migrations_are_not_applied_again(database: TestDatabase) {
    assert_eq!(pending(database.db(), &MIGRATIONS).await.unwrap(), Vec::<String>::new());
    assert_eq!(migrate(database.db(), &MIGRATIONS).await.unwrap(), Vec::<String>::new());
}

#[test]
fn an_empty_database_has_all_migrations_pending() {
    block_on(async {
        for backend in [Backend::Sqlite, Backend::Postgres] {
            let database = TestDatabase::create_empty(backend).await;
            assert_eq!(pending(database.db(), &MIGRATIONS).await.unwrap(), VERSIONS);
            assert_eq!(migrate(database.db(), &MIGRATIONS).await.unwrap(), VERSIONS);
        }
    });
}

#[test]
fn only_one_of_eight_replicas_migrates() {
    block_on(async {
        let database = TestDatabase::create_empty(Backend::Postgres).await;
        let mut replicas = JoinSet::new();
        for _ in 0..8 {
            let settings = database.settings().clone();
            replicas.spawn(async move {
                let db = Db::connect(&settings).await.unwrap();
                migrate(&db, &MIGRATIONS).await.unwrap()
            });
        }
        let mut applied = replicas.join_all().await;
        applied.sort();
        assert_eq!(applied.pop().unwrap(), VERSIONS);
        assert!(applied.iter().all(Vec::is_empty), "{applied:?}");
    });
}

#[test]
fn a_dead_replica_does_not_keep_the_migration_lock() {
    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let held = MigrationLock::acquire(database.db()).await.unwrap();
        let replica = database.replica().await;
        let waiting = tokio::spawn(async move { migrate(&replica, &MIGRATIONS).await });
        let mut conn = database.db().read().await.unwrap();
        loop {
            let waiting: Result<usize> = query!(&mut conn, |c| diesel::sql_query(
                "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            .execute(c)
            .await);
            if waiting.unwrap() == 1 {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        drop(held);
        assert_eq!(waiting.await.unwrap().unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_database_that_cannot_hold_every_text_is_refused() {
    block_on(async {
        for encoding in ["LATIN1", "SQL_ASCII"] {
            let database = TestDatabase::create_encoded(encoding).await;
            for result in [
                migrate(database.db(), &MIGRATIONS).await.map(drop),
                MigrationLock::acquire(database.db()).await.map(drop),
            ] {
                let error = result.unwrap_err().to_string();
                assert!(
                    error.starts_with(&format!("the encoding of the database is {encoding}")),
                    "{error}"
                );
            }
        }
    });
}
