//! Tests with two real servers, a primary and its hot standby. They check what happens to
//! connections when an address moves from one to the other and back.

use std::time::Duration;

use base::testing::{block_on, endpoint::Endpoint};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{DatabaseSettings, Db, MigrateError, MigrationLock, migrate, notify, testing::postgres::Cluster, write_tx};

const CHANNEL: &str = "news";
/// Time limit that only a failing test reaches.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time within which writes must succeed again once they can.
const SOON: Duration = Duration::from_secs(5);

async fn connect(url: &str) -> Db {
    let settings = DatabaseSettings {
        max_connections: 4,
        ..DatabaseSettings::new(url.parse().unwrap())
    };
    Db::connect(&settings).await.unwrap()
}

async fn write(db: &Db) -> Result<()> {
    let account = Account::new(&format!("kim{}", UserId::generate()));
    write_tx!(db, |tx| {
        account_insert(tx, &account).await?;
        notify(tx, CHANNEL, 0).await
    })
}

/// Repeats an attempt until it succeeds, which must happen within this time.
async fn works_within(limit: Duration, mut attempt: impl AsyncFnMut() -> Result<()>) {
    let tries = async {
        while let Err(error) = attempt().await {
            assert!(error.is_outage(), "{error:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, tries).await.expect("it works in time");
}

/// Opens as many connections as the pool may have, and returns them to the pool.
async fn fill(db: &Db) {
    let held = [db.read().await, db.read().await, db.read().await, db.read().await];
    for mut conn in held.map(Result::unwrap) {
        account_count(&mut conn).await.unwrap();
    }
}

/// Waits until the standby has the tables.
async fn has_caught_up(standby: &Cluster) {
    let db = connect(&format!("{}?target_session_attrs=any", standby.url("postgres"))).await;
    let caught_up = async {
        loop {
            let mut conn = db.read().await.unwrap();
            if account_count(&mut conn).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, caught_up).await.expect("it follows");
}

async fn pair() -> (Cluster, Cluster) {
    let (primary, standby) = Cluster::start_with_standby();
    migrate(&connect(&primary.url("postgres")).await, &MIGRATIONS)
        .await
        .unwrap();
    has_caught_up(&standby).await;
    (primary, standby)
}

#[test]
fn writes_resume_when_the_address_leads_to_the_primary_again() {
    block_on(async {
        let (primary, standby) = pair().await;
        let endpoint = Endpoint::to(primary.address()).await;
        let (db, other) = (
            connect(&endpoint.url("postgres")).await,
            connect(&primary.url("postgres")).await,
        );
        let mut news = db.subscribe(CHANNEL);
        fill(&db).await;
        write(&db).await.unwrap();
        let lease = db.try_lease(7).await.unwrap().expect("the lease");

        endpoint.move_to(standby.address());
        endpoint.cut();
        for _ in 0..5 {
            let outcome = write(&db).await;
            assert!(
                matches!(&outcome, Err(Error::ReadOnly(_) | Error::Unavailable(_))),
                "{outcome:?}"
            );
        }
        for outcome in [db.ping().await, write(&db).await, db.try_lease(8).await.map(drop)] {
            assert!(
                matches!(&outcome, Err(Error::ReadOnly(text)) if text.contains("standby")),
                "{outcome:?}"
            );
        }
        let refused = MigrationLock::acquire(&db).await.map(drop);
        assert!(
            matches!(refused, Err(MigrateError::Database(Error::ReadOnly(_)))),
            "{refused:?}"
        );
        drop(lease);

        endpoint.move_to(primary.address());
        works_within(SOON, async || write(&db).await).await;
        for _ in 0..30 {
            write(&db).await.unwrap();
        }
        db.ping().await.unwrap();
        assert!(db.try_lease(7).await.unwrap().is_some());
        MigrationLock::acquire(&db).await.unwrap();
        // Notifications of commits by other processes arrive again.
        while tokio::time::timeout(Duration::from_millis(300), news.notified())
            .await
            .is_ok()
        {}
        let heard = async {
            loop {
                write(&other).await.unwrap();
                if tokio::time::timeout(Duration::from_millis(100), news.notified())
                    .await
                    .is_ok()
                {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("it listens again");
    });
}

/// Covers poolers and `target_session_attrs=any`: connections can lead to a standby without having
/// been made anew.
#[test]
fn a_connection_that_cannot_write_is_not_reused() {
    block_on(async {
        let (primary, standby) = pair().await;
        let endpoint = Endpoint::to(standby.address()).await;
        let url = format!("{}?target_session_attrs=any", endpoint.url("postgres"));
        for finds_out in ["a write", "a probe"] {
            endpoint.move_to(standby.address());
            let db = connect(&url).await;
            fill(&db).await;
            let outcome = match finds_out {
                "a write" => write(&db).await,
                _ => db.ping().await,
            };
            assert!(matches!(outcome, Err(Error::ReadOnly(_))), "{finds_out}: {outcome:?}");
            // The connections to the standby would stay open if they were not closed here.
            endpoint.move_to(primary.address());
            for _ in 0..30 {
                write(&db).await.unwrap_or_else(|error| panic!("{finds_out}: {error}"));
            }
            db.ping().await.unwrap();
        }
    });
}

#[test]
fn the_writable_one_of_several_hosts_is_used() {
    block_on(async {
        let (primary, standby) = pair().await;
        for order in [[&primary, &standby], [&standby, &primary]] {
            let hosts = order.map(|cluster| cluster.address().to_string()).join(",");
            let db = connect(&format!("postgres://postgres@{hosts}/postgres")).await;
            write(&db).await.unwrap();
            db.ping().await.unwrap();
        }
        let hosts = format!("{},{}", primary.address(), standby.address());
        let db = connect(&format!("postgres://postgres@{hosts}/postgres")).await;
        fill(&db).await;
        primary.kill();
        let gone = write(&db).await.unwrap_err();
        assert!(gone.is_outage(), "{gone:?}");
        let error = db.ping().await.unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Error::ReadOnly(_)) && text.contains("refused"),
            "{text}"
        );
        assert!(text.contains(&primary.address().to_string()), "{text}");
        standby.promote();
        works_within(SOON, async || write(&db).await).await;
        db.ping().await.unwrap();
    });
}

/// Simulates a machine that is gone: it neither answers nor closes connections.
#[test]
fn an_unresponsive_host_does_not_delay_the_others() {
    block_on(async {
        let (primary, standby) = pair().await;
        primary.pause();
        standby.promote();
        let hosts = format!("{},{}", primary.address(), standby.address());
        let db = connect(&format!("postgres://postgres@{hosts}/postgres")).await;
        // A probe has one second, which is less time than the first host takes to time out.
        works_within(PATIENCE, async || db.ping().await).await;
        fill(&db).await;
        write(&db).await.unwrap();
        primary.resume();
    });
}

#[test]
fn waiting_ends_only_once_a_standby_is_promoted() {
    block_on(async {
        let (primary, standby) = pair().await;
        let db = connect(&standby.url("postgres")).await;
        let stop = CancellationToken::new();
        let waits = tokio::time::timeout(Duration::from_secs(1), db.wait_until_available(&stop)).await;
        assert!(waits.is_err(), "a standby does not accept writes");
        primary.kill();
        standby.promote();
        let waits = tokio::time::timeout(PATIENCE, db.wait_until_available(&stop)).await;
        assert!(waits.unwrap());
        write(&db).await.unwrap();
    });
}
