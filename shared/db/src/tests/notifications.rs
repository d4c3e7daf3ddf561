use std::time::Duration;

use base::testing::block_on;

use super::*;
use crate::{
    Backend, Db, Notifications, notify,
    testing::{TestDatabase, on_both_backends, postgres::Cluster},
    write_tx,
};

const CHANNEL: &str = "news";
/// Time limit that only a failing test reaches.
const PATIENCE: Duration = Duration::from_secs(30);

async fn announce(db: &Db) -> Result<()> {
    write_tx!(db, |tx| notify(tx, CHANNEL, 0).await)
}

async fn assert_woken(news: &mut Notifications) {
    tokio::time::timeout(PATIENCE, news.notified())
        .await
        .expect("it is woken");
}

/// Waits until no earlier notification is left. A listener may also wake its subscribers when it
/// has connected.
async fn settled(db: &Db, news: &mut Notifications) {
    assert_woken(news).await;
    let marked = async {
        announce(db).await.unwrap();
        assert_woken(news).await;
    };
    marked.await;
    while tokio::time::timeout(Duration::from_millis(200), news.notified())
        .await
        .is_ok()
    {}
}

#[on_both_backends]
async fn a_commit_wakes_every_subscriber_of_its_channel(database: TestDatabase) {
    let (mut one, mut two) = (database.db().subscribe(CHANNEL), database.db().subscribe(CHANNEL));
    announce(database.db()).await.unwrap();
    assert_woken(&mut one).await;
    assert_woken(&mut two).await;
}

#[on_both_backends]
async fn a_commit_waits_for_what_settles_it(database: TestDatabase) {
    let (numbers, mut settled) = tokio::sync::mpsc::unbounded_channel();
    let register = || {
        let numbers = numbers.clone();
        database.db().settle_commits(CHANNEL, move |number| {
            let numbers = numbers.clone();
            // Finishes with a delay, so that a commit that does not wait is caught.
            async move {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                let _ = numbers.send(number);
            }
        })
    };
    let (_one, other) = (register(), register());
    let committed: Result<()> = write_tx!(database.db(), |tx| {
        notify(tx, CHANNEL, 1).await?;
        notify(tx, "elsewhere", 3).await?;
        notify(tx, CHANNEL, 2).await
    });
    committed.unwrap();
    assert_eq!((settled.try_recv(), settled.try_recv()), (Ok(2), Ok(2)));
    drop(other);
    let committed: Result<()> = write_tx!(database.db(), |tx| notify(tx, CHANNEL, 3).await);
    committed.unwrap();
    assert_eq!(settled.try_recv(), Ok(3));
    let rolled_back: Result<()> = write_tx!(database.db(), |tx| {
        notify(tx, CHANNEL, 4).await?;
        Err(Error::NotFound)
    });
    rolled_back.unwrap_err();
    assert!(settled.try_recv().is_err());
}

#[on_both_backends]
async fn woken_subscribers_see_the_committed_data(database: TestDatabase) {
    let mut news = database.db().subscribe(CHANNEL);
    let account = Account::new("kim");
    let committed: Result<()> = write_tx!(database.db(), |tx| {
        notify(tx, CHANNEL, 0).await?;
        account_insert(tx, &account).await
    });
    committed.unwrap();
    assert_woken(&mut news).await;
    let mut conn = database.db().read().await.unwrap();
    assert!(account_by_id(&mut conn, account.id).await.unwrap().is_some());
}

#[on_both_backends]
async fn a_rollback_or_another_channel_wakes_no_subscriber(database: TestDatabase) {
    let mut news = database.db().subscribe(CHANNEL);
    announce(database.db()).await.unwrap();
    settled(database.db(), &mut news).await;
    let rolled_back: Result<()> = write_tx!(database.db(), |tx| {
        notify(tx, CHANNEL, 0).await?;
        Err(Error::NotFound)
    });
    assert!(rolled_back.is_err());
    let elsewhere: Result<()> = write_tx!(database.db(), |tx| notify(tx, "elsewhere", 0).await);
    elsewhere.unwrap();
    let woken = tokio::time::timeout(Duration::from_millis(300), news.notified()).await;
    assert!(woken.is_err());
}

#[on_both_backends]
async fn a_snapshot_does_not_see_later_commits(database: TestDatabase) {
    let mut snapshot = database.db().snapshot().await.unwrap();
    assert_eq!(account_count(snapshot.conn()).await.unwrap(), 0);
    let account = Account::new("kim");
    let committed: Result<()> = write_tx!(database.db(), |tx| account_insert(tx, &account).await);
    committed.unwrap();
    assert_eq!(account_count(snapshot.conn()).await.unwrap(), 0);
    snapshot.end().await;
    let mut conn = database.db().read().await.unwrap();
    assert_eq!(account_count(&mut conn).await.unwrap(), 1);
}

#[on_both_backends]
async fn a_snapshot_cannot_write(database: TestDatabase) {
    let mut snapshot = database.db().snapshot().await.unwrap();
    assert!(account_insert(snapshot.conn(), &Account::new("kim")).await.is_err());
}

#[test]
fn a_commit_wakes_the_other_processes() {
    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let other = database.replica().await;
        let mut news = other.subscribe(CHANNEL);
        // The first wake-up says that the connection listens, so nothing is missed after it.
        assert_woken(&mut news).await;
        announce(database.db()).await.unwrap();
        assert_woken(&mut news).await;
    });
}

#[test]
fn a_listener_comes_back_with_the_server() {
    block_on(async {
        let cluster = Cluster::start(None);
        let settings = crate::DatabaseSettings::new(cluster.url("postgres").parse().expect("a URL"));
        let (db, other) = (
            Db::connect(&settings).await.unwrap(),
            Db::connect(&settings).await.unwrap(),
        );
        let mut news = other.subscribe(CHANNEL);
        announce(&db).await.unwrap();
        settled(&db, &mut news).await;
        cluster.stop();
        cluster.start_again();
        // The listener wakes its subscribers when it listens again, since something may have been
        // missed.
        assert_woken(&mut news).await;
        let announced = async {
            while announce(&db).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, announced)
            .await
            .expect("the server is back");
        assert_woken(&mut news).await;
    });
}

#[test]
fn listening_stops_when_the_database_is_closed() {
    #[derive(QueryableByName)]
    struct Listener {
        #[diesel(sql_type = diesel::sql_types::Integer)]
        pid: i32,
    }

    async fn processes(database: &TestDatabase, condition: &str) -> Vec<i32> {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND {condition}");
        let mut conn = database.db().read().await.unwrap();
        let rows: Result<Vec<Listener>> = query!(&mut conn, |c| diesel::sql_query(&sql).load(c).await);
        rows.unwrap().into_iter().map(|listener| listener.pid).collect()
    }

    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let other = database.replica().await;
        let mut news = other.subscribe(CHANNEL);
        assert_woken(&mut news).await;
        // Until the first probe, LISTEN is the last statement of the connection.
        let listeners = processes(&database, "query LIKE 'LISTEN%'").await;
        assert_eq!(listeners.len(), 1);
        let is_there = format!("pid = {}", listeners[0]);
        drop((other, news));
        let gone = async {
            while !processes(&database, &is_there).await.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("the listener ends");
    });
}
