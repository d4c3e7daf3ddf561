//! Tests of following a source, on a paused clock. It jumps ahead whenever every task waits, so an
//! hour passes at once.

use std::{fs, path::PathBuf, time::Duration};

use tempfile::TempDir;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{KeySet, KeySource},
    keys::pem,
};
use crate::testing::tokens::TokenMint;

const REFRESH: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_millis(100);

/// Task that follows a file, which does not exist at first.
struct Follower {
    keys: KeySet,
    path: PathBuf,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl Follower {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.pem");
        let keys = KeySet::empty();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(KeySource::File(path.clone()).follow(keys.clone(), REFRESH, cancel.clone()));
        Self {
            keys,
            path,
            cancel,
            task,
            _folder: folder,
        }
    }

    async fn loaded(mint: &TokenMint) -> Self {
        let follower = Self::start();
        follower.publish(mint);
        follower.keys.wait_until_loaded().await;
        follower
    }

    /// Writes the key to the file in one atomic step, so that it is never half read.
    fn publish(&self, mint: &TokenMint) {
        let new = self.path.with_extension("new");
        fs::write(&new, pem(mint.jwk().public_key()).0).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    /// Returns how long it takes until this mint's key is in the set.
    async fn time_until(&self, mint: &TokenMint) -> Duration {
        let start = Instant::now();
        timeout(REFRESH * 10, async {
            while !self.keys.holds(mint.jwk()) {
                sleep(SOON).await;
            }
        })
        .await
        .unwrap();
        start.elapsed()
    }

    fn unknown_kid(&self) {
        assert!(self.keys.get("unknown").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_loaded_as_soon_as_they_are_available() {
    let follower = Follower::start();
    sleep(Duration::from_mins(10)).await;
    assert!(follower.keys.is_empty());
    let mint = TokenMint::fixed(1);
    follower.publish(&mint);
    assert!(follower.time_until(&mint).await <= Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_and_kept_while_refreshes_fail() {
    let (old, new) = (TokenMint::fixed(1), TokenMint::fixed(2));
    let follower = Follower::loaded(&old).await;
    fs::remove_file(&follower.path).unwrap();
    sleep(REFRESH * 3).await;
    assert!(follower.keys.holds(old.jwk()));
    fs::write(&follower.path, "garbage").unwrap();
    sleep(REFRESH * 3).await;
    assert!(follower.keys.holds(old.jwk()));
    follower.publish(&new);
    assert!(follower.time_until(&new).await <= REFRESH * 2);
    assert!(!follower.keys.holds(old.jwk()));
    follower.publish(&old);
    let waited = follower.time_until(&old).await;
    assert!(waited > REFRESH / 2 && waited < REFRESH * 2, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_kid_loads_the_keys_early_and_at_most_once_in_30_seconds() {
    let mints = [1, 2, 3, 4].map(TokenMint::fixed);
    let follower = Follower::loaded(&mints[0]).await;

    follower.publish(&mints[1]);
    follower.unknown_kid();
    assert!(follower.time_until(&mints[1]).await < Duration::from_secs(1));

    for mint in &mints[2..] {
        follower.publish(mint);
        let start = Instant::now();
        while !follower.keys.holds(mint.jwk()) {
            follower.unknown_kid();
            sleep(SOON).await;
        }
        let waited = start.elapsed();
        assert!(
            waited >= Duration::from_secs(29) && waited < Duration::from_secs(31),
            "{waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_stops_the_follower() {
    for follower in [Follower::start(), Follower::loaded(&TokenMint::fixed(1)).await] {
        follower.cancel.cancel();
        timeout(Duration::from_secs(1), follower.task).await.unwrap().unwrap();
    }
}
