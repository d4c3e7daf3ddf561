//! Word between transactions: whoever commits can wake whoever waits, in this process on SQLite and in every process
//! on PostgreSQL (LISTEN and NOTIFY).
//!
//! A notification says only that there may be something to read. One can be lost with a connection, so whoever waits also
//! looks by itself now and then.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl as _;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::{Conn, Db, Raw, Result, postgres::Pool};

const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_LONGEST: Duration = Duration::from_secs(2);
/// A connection on which nothing comes is asked this often whether it lives.
const PROBE: Duration = Duration::from_secs(5);

/// Who waits in this process, by channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Hub(Arc<Channels>);

type Channels = Mutex<HashMap<&'static str, watch::Sender<()>>>;

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
        let channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = channels.get(channel) {
            waiting.send_replace(());
        }
    }

    /// The subscription, and whether it is the first to its channel.
    fn subscribe(&self, channel: &'static str) -> (Notifications, bool) {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = false;
        let sender = channels.entry(channel).or_insert_with(|| {
            first = true;
            watch::Sender::new(())
        });
        (Notifications(sender.subscribe()), first)
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
}

/// Wakes the channel's subscribers when the transaction commits.
pub async fn notify(conn: &mut Conn, channel: &'static str) -> Result<()> {
    conn.wake_after_commit(channel);
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
