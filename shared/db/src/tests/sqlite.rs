use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use base::testing::block_on;
use diesel_async::SimpleAsyncConnection as _;

use super::*;
use crate::{Backend, DatabaseSettings, Db, Error, OpenError, testing::TestDatabase, write_tx};

fn settings(path: &Path) -> DatabaseSettings {
    DatabaseSettings::new(format!("sqlite:{}", path.display()).parse().unwrap())
}

async fn open_error(path: &Path) -> OpenError {
    match Db::connect(&settings(path)).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

#[test]
fn a_file_is_served_by_one_process() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.db");
        let link = directory.path().join("link.db");
        let first = Db::connect(&settings(&path)).await.unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for path in [&path, &link] {
            let error = open_error(path).await;
            assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
            assert!(error.to_string().contains("test.db.lock"), "{error}");
        }
        drop(first);
        Db::connect(&settings(&path)).await.unwrap();
    });
}

#[test]
fn only_the_owner_may_read_the_files() {
    block_on(async {
        let database = TestDatabase::create(Backend::Sqlite, &MIGRATIONS).await;
        let path = database.url().strip_prefix("sqlite:").unwrap();
        for suffix in ["", ".lock", "-wal", "-shm"] {
            let mode = fs::metadata(format!("{path}{suffix}")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{suffix}");
        }
    });
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing/test.db");
        let error = open_error(&missing).await;
        assert!(matches!(error, OpenError::File { .. }), "{error:?}");
        assert!(error.to_string().contains("missing/test.db"), "{error}");

        let text = directory.path().join("text.db");
        fs::write(
            &text,
            "this is not a database, but it is longer than a header of SQLite; ".repeat(20),
        )
        .unwrap();
        let error = open_error(&text).await;
        assert!(matches!(error, OpenError::Unusable { .. }), "{error:?}");
        assert!(error.to_string().contains("text.db"), "{error}");
    });
}

#[test]
fn a_reader_cannot_write() {
    block_on(async {
        let database = TestDatabase::create(Backend::Sqlite, &MIGRATIONS).await;
        let mut reader = database.db().read().await.unwrap();
        let outcome = account_insert(&mut reader, &Account::new("kim")).await;
        assert!(matches!(outcome, Err(Error::Internal(_))), "{outcome:?}");
    });
}

#[test]
fn every_connection_has_its_pragmas() {
    #[derive(QueryableByName)]
    struct Pragma {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        value: i64,
    }

    async fn pragma(conn: &mut Conn, name: &str) -> i64 {
        let sql = format!("SELECT {name} AS value FROM pragma_{name}");
        let rows: Result<Pragma> = query!(conn, |c| diesel::sql_query(&sql).get_result(c).await);
        rows.unwrap().value
    }

    block_on(async {
        let database = TestDatabase::create_empty(Backend::Sqlite).await;
        let mut transaction = database.db().begin().await.unwrap();
        let mut reader = database.db().read().await.unwrap();
        for conn in [transaction.conn(), &mut reader] {
            // The value 2 means FULL.
            assert_eq!(pragma(conn, "synchronous").await, 2);
            assert_eq!(pragma(conn, "foreign_keys").await, 1);
        }
    });
}

#[test]
fn a_lock_held_by_another_program_is_unavailable() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.db");
        let mut settings = settings(&path);
        settings.acquire_timeout = Duration::from_millis(50);
        let db = Db::connect(&settings).await.unwrap();
        let mut other = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        diesel::connection::SimpleConnection::batch_execute(&mut other, "BEGIN IMMEDIATE").unwrap();
        let outcome = db.begin().await.map(drop);
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
        diesel::connection::SimpleConnection::batch_execute(&mut other, "ROLLBACK").unwrap();
        db.begin().await.unwrap();
    });
}

#[test]
fn a_full_disk_is_unavailable() {
    block_on(async {
        let database = TestDatabase::create(Backend::Sqlite, &MIGRATIONS).await;
        let outcome: Result<()> = write_tx!(database.db(), |tx| {
            query!(tx, |c| c.batch_execute("PRAGMA max_page_count = 1").await)?;
            account_insert(tx, &Account::new(&"x".repeat(1_000_000))).await
        });
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
    });
}

#[test]
fn plans_do_not_depend_on_bound_values() {
    block_on(async {
        let database = TestDatabase::create_empty(Backend::Sqlite).await;
        let conn = &mut database.db().read().await.unwrap();
        let option = crate::prepared::<diesel::sql_types::Integer>("SELECT sqlite_compileoption_used('ENABLE_QPSG')");
        let is_used: Result<i32> = query!(conn, |c| option.get_result(c).await);
        assert_eq!(
            is_used.unwrap(),
            1,
            "LIBSQLITE3_FLAGS of .cargo/config.toml did not reach the build"
        );
    });
}

#[test]
fn long_reads_leave_threads_to_other_calls() {
    block_on(async {
        let database = TestDatabase::create_empty(Backend::Sqlite).await;
        let long = async |db: Db| {
            let sum = crate::prepared::<diesel::sql_types::BigInt>(
                "WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < \
                 3000000) SELECT sum(number) FROM numbers",
            );
            let conn = &mut db.scan().await.unwrap();
            let sum: Result<i64> = query!(conn, |c| sum.get_result(c).await);
            sum.unwrap()
        };
        // There are as many reads as the runtime has threads.
        let reads = [(); 2].map(|()| tokio::spawn(long(database.db().clone())));
        let mut turns = 0;
        while !reads.iter().all(tokio::task::JoinHandle::is_finished) {
            // This task runs on whichever thread is free.
            tokio::spawn(std::future::ready(())).await.unwrap();
            turns += 1;
            tokio::task::yield_now().await;
        }
        assert!(turns > 100, "{turns}");
    });
}
