use std::time::Duration;

use base::testing::block_on;
use uuid::Uuid;

use crate::{
    Announced, Announcements, Backend, Db,
    testing::{TestDatabase, on_both_backends, postgres::Cluster},
};

const CHANNEL: &str = "things";
/// Time limit that only a failing test reaches.
const PATIENCE: Duration = Duration::from_secs(30);

async fn next(announcements: &mut Announcements) -> Announced {
    tokio::time::timeout(PATIENCE, announcements.next())
        .await
        .expect("it is announced")
}

/// Waits until this key is announced.
async fn wait_for_key(announcements: &mut Announcements, key: Uuid) {
    while next(announcements).await != Announced::About(key) {}
}

/// Announces repeatedly until the other side hears of it, because nothing tells when its connection
/// has begun to listen.
async fn connected(here: &Db, there: &mut Announcements) {
    let mark = Uuid::new_v4();
    let announcing = async {
        loop {
            here.announce(CHANNEL, mark);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = announcing => {}
        () = wait_for_key(there, mark) => {}
    }
}

#[on_both_backends]
async fn announcements_arrive_once_here_and_in_other_processes(database: TestDatabase) {
    let here = database.db();
    let there = database.replica().await;
    let (mut own, mut others) = (here.announcements(CHANNEL), there.announcements(CHANNEL));
    connected(here, &mut others).await;
    connected(&there, &mut own).await;
    // These keys do not fit into one message.
    let keys: Vec<Uuid> = (0..500).map(|_| Uuid::new_v4()).collect();
    for key in &keys {
        here.announce(CHANNEL, *key);
        here.announce("elsewhere", Uuid::new_v4());
    }
    let mut heard = Vec::new();
    while heard.len() < keys.len() {
        match next(&mut own).await {
            Announced::About(key) => heard.extend(keys.contains(&key).then_some(key)),
            Announced::Anything => panic!("nothing was lost"),
        }
    }
    assert_eq!(heard, keys);
    let mut missing: std::collections::BTreeSet<Uuid> = keys.iter().copied().collect();
    while !missing.is_empty() {
        match next(&mut others).await {
            Announced::About(key) => {
                missing.remove(&key);
            }
            Announced::Anything => panic!("nothing was lost"),
        }
    }
    // A process does not receive its own announcements from the server.
    let last = Uuid::new_v4();
    there.announce(CHANNEL, last);
    while let announced = next(&mut own).await
        && announced != Announced::About(last)
    {
        assert!(
            !keys.iter().any(|key| announced == Announced::About(*key)),
            "{announced:?} came twice"
        );
    }
}

#[on_both_backends]
async fn a_lagging_subscriber_is_told_that_anything_may_have_changed(database: TestDatabase) {
    let mut announcements = database.db().announcements(CHANNEL);
    for _ in 0..10_000 {
        database.db().announce(CHANNEL, Uuid::new_v4());
    }
    assert_eq!(next(&mut announcements).await, Announced::Anything);
}

#[on_both_backends]
async fn only_one_process_at_a_time_holds_a_lease(database: TestDatabase) {
    let other = database.replica().await;
    let held = database.db().try_lease(7).await.expect("an answer").expect("the lease");
    let is_free = database.backend() == Backend::Sqlite;
    assert_eq!(other.try_lease(7).await.expect("an answer").is_some(), is_free);
    assert!(other.try_lease(8).await.expect("an answer").is_some());
    drop(held);
    let freed = async { while other.try_lease(7).await.expect("an answer").is_none() {} };
    tokio::time::timeout(PATIENCE, freed).await.expect("it is free again");
}

#[test]
fn after_the_server_was_away_anything_may_have_changed() {
    block_on(async {
        let cluster = Cluster::start(None);
        let settings = crate::DatabaseSettings::new(cluster.url("postgres").parse().expect("a URL"));
        let here = Db::connect(&settings).await.expect("connected");
        let there = Db::connect(&settings).await.expect("connected");
        let mut announcements = there.announcements(CHANNEL);
        connected(&here, &mut announcements).await;
        cluster.stop();
        here.announce(CHANNEL, Uuid::new_v4());
        cluster.start_again();
        // The announcement made meanwhile may have been sent before the other side listened again.
        while next(&mut announcements).await != Announced::Anything {}
        connected(&here, &mut announcements).await;
    });
}
