use std::time::{Duration, Instant};

use base::{error::ErrorReply, testing::block_on};
use diesel_async::SimpleAsyncConnection as _;
use tokio::net::TcpListener;
use tonic::Code;

use super::*;
use crate::{
    Backend, DatabaseSettings, Db, Error,
    testing::{TestDatabase, postgres::Cluster},
    write_tx,
};

#[derive(QueryableByName)]
struct Pid {
    #[diesel(sql_type = diesel::sql_types::Integer)]
    pid: i32,
}

pub(super) async fn pid(conn: &mut Conn) -> i32 {
    let row: Result<Pid> = query!(conn, |c| diesel::sql_query("SELECT pg_backend_pid() AS pid")
        .get_result(c)
        .await);
    row.unwrap().pid
}

pub(super) async fn execute(conn: &mut Conn, sql: &str) -> Result<()> {
    query!(conn, |c| c.batch_execute(sql).await)
}

/// Returns settings with one connection and short time limits.
fn impatient(url: &str) -> DatabaseSettings {
    DatabaseSettings {
        max_connections: 1,
        acquire_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(200),
        ..DatabaseSettings::new(url.parse().unwrap())
    }
}

#[test]
fn a_server_that_is_not_there_is_unavailable_at_once() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let url = format!("postgres://kim:s3cret@{address}/test").parse().unwrap();
        let db = Db::connect(&DatabaseSettings::new(url)).await.unwrap();
        let start = Instant::now();
        let error = db.read().await.map(drop).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(1));
        assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("s3cret"));
        assert!(db.ping().await.is_err());
        let reply = ErrorReply::from(error);
        assert_eq!(
            (reply.code(), reply.reason()),
            (Code::Unavailable, "DATABASE_UNAVAILABLE")
        );
    });
}

#[test]
fn an_unresponsive_server_is_unavailable_in_time() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://kim@{}/test", listener.local_addr().unwrap());
        let db = Db::connect(&impatient(&url)).await.unwrap();
        let start = Instant::now();
        let error = db.begin().await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(2));
    });
}

#[test]
fn calls_work_again_after_a_pause_or_restart_of_the_server() {
    block_on(async {
        let cluster = Cluster::start(None);
        let db = Db::connect(&impatient(&cluster.url("postgres"))).await.unwrap();
        db.ping().await.unwrap();

        cluster.pause();
        let start = Instant::now();
        assert!(matches!(db.ping().await, Err(Error::Unavailable(_))));
        assert!(matches!(db.begin().await.map(drop), Err(Error::Unavailable(_))));
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        cluster.resume();
        db.ping().await.unwrap();

        cluster.stop();
        assert!(matches!(db.ping().await, Err(Error::Unavailable(_))));
        cluster.start_again();
        db.ping().await.unwrap();
    });
}

#[test]
fn a_slow_statement_is_ended_by_the_server() {
    block_on(async {
        let database = TestDatabase::create_empty(Backend::Postgres).await;
        let db = Db::connect(&impatient(database.url())).await.unwrap();
        let mut conn = db.read().await.unwrap();
        let before = pid(&mut conn).await;
        let outcome = execute(&mut conn, "SELECT pg_sleep(60)").await;
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
        assert_eq!(pid(&mut conn).await, before);
    });
}

#[test]
fn a_connection_cut_off_in_a_statement_is_not_reused() {
    block_on(async {
        let database = TestDatabase::create_empty(Backend::Postgres).await;
        let mut settings = database.settings().clone();
        settings.max_connections = 1;
        let db = Db::connect(&settings).await.unwrap();
        let mut reader = db.read().await.unwrap();
        let first = pid(&mut reader).await;
        let cut_off = tokio::time::timeout(Duration::from_millis(50), execute(&mut reader, "SELECT pg_sleep(60)"));
        assert!(cut_off.await.is_err());
        drop(reader);

        let start = Instant::now();
        let mut transaction = db.begin().await.unwrap();
        let second = pid(transaction.conn()).await;
        assert_ne!(first, second);
        let sleep = execute(transaction.conn(), "SELECT pg_sleep(60)");
        assert!(tokio::time::timeout(Duration::from_millis(50), sleep).await.is_err());
        drop(transaction);

        assert_ne!(pid(&mut db.read().await.unwrap()).await, second);
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn the_most_recently_returned_connection_is_used_first() {
    block_on(async {
        let database = TestDatabase::create_empty(Backend::Postgres).await;
        let db = database.db();
        let (mut one, mut other) = (db.read().await.unwrap(), db.read().await.unwrap());
        let last = pid(&mut other).await;
        assert_ne!(pid(&mut one).await, last);
        drop(one);
        drop(other);
        for _ in 0..3 {
            assert_eq!(pid(&mut db.read().await.unwrap()).await, last);
        }
    });
}

#[test]
fn an_abandoned_transaction_returns_its_connection() {
    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let mut settings = database.settings().clone();
        settings.max_connections = 1;
        let db = Db::connect(&settings).await.unwrap();
        let mut transaction = db.begin().await.unwrap();
        let before = pid(transaction.conn()).await;
        account_insert(transaction.conn(), &Account::new("kim")).await.unwrap();
        drop(transaction);
        let mut conn = db.read().await.unwrap();
        assert_eq!(pid(&mut conn).await, before);
        assert_eq!(account_count(&mut conn).await.unwrap(), 0);
    });
}

#[test]
fn timestamps_mean_the_same_to_the_server() {
    #[derive(QueryableByName)]
    struct Texts {
        #[diesel(sql_type = diesel::sql_types::Text)]
        created: String,
        #[diesel(sql_type = diesel::sql_types::Text)]
        id: String,
    }

    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let mut account = Account::new("kim");
        account.created = Timestamp::from_micros(1_234_567_890_123_456);
        let outcome: Result<()> = write_tx!(database.db(), |tx| account_insert(tx, &account).await);
        outcome.unwrap();
        let mut conn = database.db().read().await.unwrap();
        let row: Result<Texts> = query!(&mut conn, |c| diesel::sql_query(
            "SELECT (created AT TIME ZONE 'UTC')::text AS created, id::text AS id FROM accounts"
        )
        .get_result(c)
        .await);
        let row = row.unwrap();
        assert_eq!(
            (row.created.as_str(), row.id),
            ("2009-02-13 23:31:30.123456", account.id.to_string())
        );
    });
}

/// Uses a role that may have only two connections.
#[test]
fn at_the_limit_of_the_server_a_call_waits_for_a_connection() {
    async fn work(db: Db) -> Result<()> {
        let mut conn = db.read().await?;
        execute(&mut conn, "SELECT pg_sleep(0.01)").await
    }

    block_on(async {
        let cluster = Cluster::start(None);
        let admin = Db::connect(&DatabaseSettings::new(cluster.url("postgres").parse().unwrap()))
            .await
            .unwrap();
        let mut conn = admin.read().await.unwrap();
        execute(&mut conn, "CREATE ROLE few LOGIN CONNECTION LIMIT 2")
            .await
            .unwrap();
        let url = cluster.url("postgres").replace("postgres@", "few@");
        let settings = |seconds| DatabaseSettings {
            acquire_timeout: Duration::from_secs(seconds),
            ..DatabaseSettings::new(url.parse().unwrap())
        };
        let db = Db::connect(&settings(20)).await.unwrap();
        let start = Instant::now();
        let calls: Vec<_> = (0..100).map(|_| tokio::spawn(work(db.clone()))).collect();
        for call in calls {
            call.await.unwrap().expect("it waits for a connection");
        }
        // The calls do not all keep asking the server. Together they ask at most once every 50 ms,
        // after an initial burst of as many attempts as the pool has connections.
        let refused = cluster.log().matches("too many connections for role").count();
        let most = start.elapsed().as_millis() / 50 + 40;
        assert!(refused > 0 && (refused as u128) < most, "{refused}, {most}");
        let held = [db.read().await.unwrap(), db.read().await.unwrap()];
        // Another process gets a connection only once the others give one up. Until then it waits
        // for as long as its settings say.
        let other = Db::connect(&settings(1)).await.unwrap();
        let start = Instant::now();
        for outcome in [other.read().await.map(drop), other.try_lease(7).await.map(drop)] {
            assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
        }
        assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
        drop(held);
        drop(db);
        // The server may take a while to end them.
        let other = Db::connect(&settings(20)).await.unwrap();
        other.read().await.expect("the others are gone");
    });
}

#[test]
fn a_locked_row_is_a_conflict_without_waiting() {
    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let account = Account::new("kim");
        let outcome: Result<()> = write_tx!(database.db(), |tx| account_insert(tx, &account).await);
        outcome.unwrap();
        let mut holder = database.db().begin().await.unwrap();
        assert!(account_lock(holder.conn(), account.id).await.unwrap().is_some());
        let mut other = database.db().begin().await.unwrap();
        let outcome = execute(other.conn(), "SELECT 1 FROM accounts FOR UPDATE NOWAIT").await;
        assert!(matches!(outcome, Err(Error::Conflict(_))), "{outcome:?}");
    });
}

#[test]
fn a_deadlock_is_a_conflict_for_one_of_the_two() {
    async fn lock_both(db: &Db, first: i32, second: i32, barrier: &tokio::sync::Barrier) -> Result<()> {
        write_tx!(db, |tx| {
            execute(tx, "SET LOCAL deadlock_timeout = '50ms'").await?;
            execute(tx, &format!("SELECT pg_advisory_xact_lock({first})")).await?;
            barrier.wait().await;
            execute(tx, &format!("SELECT pg_advisory_xact_lock({second})")).await
        })
    }

    block_on(async {
        let database = TestDatabase::create_empty(Backend::Postgres).await;
        let barrier = tokio::sync::Barrier::new(2);
        let (one, two) = tokio::join!(
            lock_both(database.db(), 1, 2, &barrier),
            lock_both(database.db(), 2, 1, &barrier)
        );
        let error = match (one, two) {
            (Err(error), Ok(())) | (Ok(()), Err(error)) => error,
            both => panic!("{both:?}"),
        };
        let reply = ErrorReply::from(error);
        assert_eq!((reply.code(), reply.reason()), (Code::Aborted, "TRANSACTION_CONFLICT"));
    });
}
