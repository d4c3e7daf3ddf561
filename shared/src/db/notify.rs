//! Word between transactions: whoever commits can wake whoever waits, in this process on SQLite and in every process
//! on PostgreSQL (LISTEN and NOTIFY).
//!
//! A notification says only that there may be something to read. One can be lost with a connection, so whoever waits also
//! looks by itself now and then.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl as _;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use tokio::sync::watch;

use super::{Conn, Db, Raw, Result, postgres::Pool};

const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_LONGEST: Duration = Duration::from_secs(2);
/// A connection on which nothing comes is asked this often whether it lives.
const PROBE: Duration = Duration::from_secs(5);

/// Who waits in this process, by channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Hub(Arc<Channels>);

type Channels = Mutex<HashMap<&'static str, Channel>>;

#[derive(Default)]
struct Channel {
    waiting: watch::Sender<()>,
    /// Somebody in this process has subscribed.
    is_listened_to: bool,
    settle: Option<Arc<Settle>>,
}

type Settle = dyn Fn(i64) -> BoxFuture<'static, ()> + Send + Sync;

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("waiting", &self.waiting.receiver_count())
            .finish_non_exhaustive()
    }
}

/// Wakes its holder after commits that notified the channel.
#[derive(Clone, Debug)]
pub struct Notifications(watch::Receiver<()>);

impl Notifications {
    /// Returns once somebody may have committed since the last return, or since the subscription.
    pub async fn notified(&mut self) {
        if self.0.changed().await.is_err() {
            // The database is closed: nobody commits any more.
            std::future::pending::<()>().await;
        }
    }

    /// The same, and after this much time in any case.
    pub async fn notified_within(&mut self, time: Duration) {
        let _ = tokio::time::timeout(time, self.notified()).await;
    }
}

impl Hub {
    pub(super) fn wake(&self, channel: &'static str) {
        if let Some(channel) = self.channels().get(channel) {
            channel.waiting.send_replace(());
        }
    }

    /// Waits for what [`Db::settle_commits`] was told to wait for.
    pub(super) async fn settle(&self, channel: &'static str, number: i64) {
        let settle = self.channels().get(channel).and_then(|channel| channel.settle.clone());
        if let Some(settle) = settle {
            settle(number).await;
        }
    }

    /// The subscription, and whether it is the first to its channel.
    fn subscribe(&self, channel: &'static str) -> (Notifications, bool) {
        let mut channels = self.channels();
        let channel = channels.entry(channel).or_default();
        let first = !std::mem::replace(&mut channel.is_listened_to, true);
        (Notifications(channel.waiting.subscribe()), first)
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<&'static str, Channel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Db {
    /// Word of every commit that [notifies](notify) this channel from now on.
    pub fn subscribe(&self, channel: &'static str) -> Notifications {
        let (notifications, first) = self.hub().subscribe(channel);
        if let (Self::Postgres(pool), true) = (self, first) {
            // Weak: the task ends with the database's last handle.
            let (hub, pool) = (Arc::downgrade(&self.hub().0), pool.clone_without_hub());
            tokio::spawn(listen(channel, pool, hub));
        }
        notifications
    }

    /// From now on whoever commits in this process a transaction that has [notified](notify) the channel also waits for this future, which is
    /// given the number that was notified. It must end by itself, and must not hold this database: that would keep it open for ever.
    pub fn settle_commits<F>(&self, channel: &'static str, settle: impl Fn(i64) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let settle = move |number| settle(number).boxed();
        self.hub().channels().entry(channel).or_default().settle = Some(Arc::new(settle));
    }
}

/// Wakes the channel's subscribers when the transaction commits. The number is for whoever [settles](Db::settle_commits) commits; of several in
/// one transaction the last one counts.
pub async fn notify(conn: &mut Conn, channel: &'static str, number: i64) -> Result<()> {
    conn.wake_after_commit(channel, number);
    let (raw, statement) = conn.start();
    let result = match raw {
        Raw::Sqlite(_) => Ok(()),
        Raw::Postgres(c) => {
            let notify = diesel::sql_query("SELECT pg_notify($1, '')").bind::<Text, _>(channel);
            super::bounded(statement.limit(), notify.execute(c)).await.map(|_| ())
        }
    };
    statement.end(result)
}

/// Passes on what the server says, from one connection after the other.
async fn listen(channel: &'static str, pool: Pool, hub: Weak<Channels>) {
    let mut wait = RECONNECT_FIRST;
    while let Some(channels) = hub.upgrade() {
        let hub_now = Hub(channels);
        match listening(channel, &pool).await {
            Ok(mut conn) => {
                wait = RECONNECT_FIRST;
                // Something may have been missed before.
                hub_now.wake(channel);
                drop(hub_now);
                loop {
                    let next = async { pin!(conn.notifications_stream()).next().await };
                    match tokio::time::timeout(PROBE, next).await {
                        Ok(Some(Ok(_))) => {}
                        Ok(Some(Err(_)) | None) => break,
                        Err(_elapsed) => {
                            let probe = diesel::sql_query("SELECT 1");
                            if super::bounded(Some(PROBE), probe.execute(&mut conn)).await.is_err() {
                                break;
                            }
                            if hub.strong_count() == 0 {
                                return;
                            }
                            continue;
                        }
                    }
                    let Some(channels) = hub.upgrade() else { return };
                    Hub(channels).wake(channel);
                }
                tracing::debug!(channel, "the connection that listens is gone; making another");
            }
            Err(error) => {
                drop(hub_now);
                tracing::debug!(channel, %error, "cannot listen; trying again");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RECONNECT_LONGEST);
    }
}

async fn listening(channel: &'static str, pool: &Pool) -> Result<diesel_async::AsyncPgConnection> {
    let mut conn = pool.dedicated().await?;
    // The name is one of ours, and an identifier cannot be bound.
    diesel::sql_query(format!("LISTEN \"{channel}\""))
        .execute(&mut conn)
        .await?;
    Ok(conn)
}
