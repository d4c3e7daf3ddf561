//! Notifications between transactions: a commit can wake waiting tasks. On SQLite these are in this
//! process, and on PostgreSQL in all processes (LISTEN and NOTIFY).
//!
//! A notification only says that there may be something to read. It can be lost together with a
//! connection, so subscribers must also poll now and then.
//!
//! There are two kinds. [`notify`] is part of a transaction, and says that something has changed.
//! [`announce`] takes effect after a transaction, and says which key has changed. PostgreSQL
//! commits transactions that notify strictly one after another, which is too slow for frequent
//! events. Announcements are therefore batched and sent outside of the transactions.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base::backoff::Backoff;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl as _;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Conn, Raw, Result, conn::bounded, fail_over::read_only, postgres::Pool, prepared};

/// Shortest and longest pause before another attempt to listen or to send.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a listening connection may be silent before it is probed. Also the time limit of such a
/// probe, and of LISTEN.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of announcements that wait for one subscriber. A subscriber that falls further
/// behind receives [`Announced::Anything`].
const MAX_QUEUED: usize = 4096;
/// Maximum number of announcements that wait to be sent to other processes. Beyond that, one
/// announcement about everything replaces them.
const MAX_UNSENT: usize = 4096;
/// Maximum number of keys in one message. A key takes 33 bytes, and a message may have up to 8000.
const MAX_KEYS_PER_MESSAGE: usize = 200;

/// Subscribers in this process, by channel. Clones share them.
#[derive(Clone)]
pub(super) struct Hub(Arc<Shared>);

struct Shared {
    channels: Mutex<HashMap<&'static str, Channel>>,
    /// Connections to the server, which passes notifications on to other processes. `None` on
    /// SQLite.
    server: Option<Pool>,
}

struct Channel {
    waiting: watch::Sender<()>,
    announced: broadcast::Sender<Announced>,
    /// Whether this process has subscribed to the channel.
    is_listened_to: bool,
    settle: Vec<Weak<Settle>>,
    outbox: Option<Outbox>,
}

/// Future that commits wait for, made from the number of the notification.
struct Settle {
    settle: Box<dyn Fn(i64) -> BoxFuture<'static, ()> + Send + Sync>,
    ended: CancellationToken,
}

/// Registration with [`Db::settle_commits`](crate::Db::settle_commits). It ends when this is
/// dropped.
#[must_use]
pub struct SettleGuard(Arc<Settle>);

impl Drop for SettleGuard {
    fn drop(&mut self) {
        self.0.ended.cancel();
    }
}

impl fmt::Debug for SettleGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettleGuard").finish_non_exhaustive()
    }
}

/// Announcements that have yet to be sent to other processes.
struct Outbox {
    /// Id of this process on the channel, by which it recognizes and ignores its own messages.
    origin: Uuid,
    unsent: mpsc::Sender<Uuid>,
    overflown: Arc<AtomicBool>,
}

/// Subject of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// The thing with this key has changed.
    About(Uuid),
    /// Announcements may have been lost, so anything may have changed.
    Anything,
}

/// Stream of announcements on a channel.
#[derive(Debug)]
pub struct Announcements(broadcast::Receiver<Announced>);

impl Announcements {
    /// Waits for the next announcement.
    pub async fn next(&mut self) -> Announced {
        match self.0.recv().await {
            Ok(announced) => announced,
            Err(broadcast::error::RecvError::Lagged(_)) => Announced::Anything,
            // The database is closed, so there are no more commits.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            waiting: watch::Sender::new(()),
            announced: broadcast::Sender::new(MAX_QUEUED),
            is_listened_to: false,
            settle: Vec::new(),
            outbox: None,
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("waiting", &self.waiting.receiver_count())
            .finish_non_exhaustive()
    }
}

/// Subscription that is woken after commits that notified the channel.
#[derive(Clone, Debug)]
pub struct Notifications(watch::Receiver<()>);

impl Notifications {
    /// Waits until there may have been a commit since the last call returned, or since the
    /// subscription.
    pub async fn notified(&mut self) {
        if self.0.changed().await.is_err() {
            // The database is closed, so there are no more commits.
            std::future::pending::<()>().await;
        }
    }

    /// Waits like [`Self::notified`], but no longer than this time.
    pub async fn notified_within(&mut self, time: Duration) {
        let _ = tokio::time::timeout(time, self.notified()).await;
    }
}

impl Hub {
    /// Creates the hub of a file, which only one process serves.
    pub(super) fn of_process() -> Self {
        Self::new(None)
    }

    /// Creates the hub of a server, which other processes use as well.
    pub(super) fn of_server(pool: Pool) -> Self {
        Self::new(Some(pool))
    }

    fn new(server: Option<Pool>) -> Self {
        Self(Arc::new(Shared {
            channels: Mutex::default(),
            server,
        }))
    }

    pub(super) fn wake(&self, channel: &'static str) {
        if let Some(channel) = self.channels().get(channel) {
            channel.waiting.send_replace(());
        }
    }

    /// Waits for the futures that were registered with [`Self::settle_commits`].
    pub(super) async fn settle(&self, channel: &'static str, number: i64) {
        let settle: Vec<Arc<Settle>> = match self.channels().get(channel) {
            Some(channel) => channel.settle.iter().filter_map(Weak::upgrade).collect(),
            None => return,
        };
        let waits = settle
            .iter()
            .map(|settle| settle.ended.run_until_cancelled((settle.settle)(number)));
        join_all(waits).await;
    }

    /// Handles a notification from the server. An empty payload wakes the subscribers. Any other
    /// payload is an announcement: the id of its sender, followed by the keys.
    fn handle_payload(&self, channel: &'static str, payload: &str) {
        let channels = self.channels();
        let Some(channel) = channels.get(channel) else { return };
        let mut words = payload.split(' ').map(str::parse::<Uuid>);
        let Some(Ok(origin)) = words.next() else {
            channel.waiting.send_replace(());
            return;
        };
        if channel.outbox.as_ref().is_some_and(|outbox| outbox.origin == origin) {
            return;
        }
        for word in words {
            // Fails only if there are no subscribers.
            let _ = channel
                .announced
                .send(word.map_or(Announced::Anything, Announced::About));
        }
    }

    /// Wakes all subscribers and announces [`Announced::Anything`], because something may have been
    /// missed.
    fn wake_all(&self, channel: &'static str) {
        if let Some(channel) = self.channels().get(channel) {
            channel.waiting.send_replace(());
            let _ = channel.announced.send(Announced::Anything);
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<&'static str, Channel>> {
        self.0.channels.lock()
    }
}

impl Hub {
    /// See [`Db::subscribe`](crate::Db::subscribe).
    pub(super) fn subscribe(&self, channel: &'static str) -> Notifications {
        Notifications(self.listen(channel, |channel| channel.waiting.subscribe()))
    }

    /// See [`Db::announcements`](crate::Db::announcements).
    pub(super) fn announcements(&self, channel: &'static str) -> Announcements {
        Announcements(self.listen(channel, |channel| channel.announced.subscribe()))
    }

    /// See [`Db::announce`](crate::Db::announce).
    pub(super) fn announce(&self, channel: &'static str, key: Uuid) {
        let mut channels = self.channels();
        let entry = channels.entry(channel).or_default();
        let _ = entry.announced.send(Announced::About(key));
        if let Some(pool) = &self.0.server {
            let outbox = entry.outbox.get_or_insert_with(|| {
                let (unsent, queue) = mpsc::channel(MAX_UNSENT);
                let (origin, overflown) = (Uuid::new_v4(), Arc::<AtomicBool>::default());
                tokio::spawn(send(channel, origin, pool.clone(), queue, Arc::clone(&overflown)));
                Outbox {
                    origin,
                    unsent,
                    overflown,
                }
            });
            if outbox.unsent.try_send(key).is_err() {
                outbox.overflown.store(true, Ordering::SeqCst);
            }
        }
    }

    /// See [`Db::settle_commits`](crate::Db::settle_commits).
    pub(super) fn settle_commits<F>(
        &self,
        channel: &'static str,
        settle: impl Fn(i64) -> F + Send + Sync + 'static,
    ) -> SettleGuard
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let settle = Arc::new(Settle {
            settle: Box::new(move |number| settle(number).boxed()),
            ended: CancellationToken::new(),
        });
        let mut channels = self.channels();
        let registered = &mut channels.entry(channel).or_default().settle;
        registered.retain(|other| other.strong_count() > 0);
        registered.push(Arc::downgrade(&settle));
        SettleGuard(settle)
    }

    fn listen<T>(&self, channel: &'static str, subscribe: impl FnOnce(&Channel) -> T) -> T {
        let mut channels = self.channels();
        let entry = channels.entry(channel).or_default();
        let is_first = !std::mem::replace(&mut entry.is_listened_to, true);
        let subscription = subscribe(entry);
        drop(channels);
        if let (Some(pool), true) = (&self.0.server, is_first) {
            // The reference is weak, so that the task ends with the last handle to the database.
            tokio::spawn(listen(channel, pool.clone(), Arc::downgrade(&self.0)));
        }
        subscription
    }
}

/// Wakes the channel's subscribers when the transaction commits. The number is passed to the future
/// that [settles](crate::Db::settle_commits) commits. If a transaction notifies a channel several
/// times, the last number counts.
pub async fn notify(conn: &mut Conn, channel: &'static str, number: i64) -> Result<()> {
    conn.wake_after_commit(channel, number);
    let (raw, statement) = conn.start(|| "NOTIFY");
    let result = match raw {
        Raw::Sqlite(_) => Ok(()),
        Raw::Postgres(c) => {
            let notify = prepared::<()>("SELECT pg_notify(")
                .bind::<Text, _>(channel)
                .text(", '')");
            statement.run(notify.execute(c)).await.map(|_| ())
        }
    };
    statement.end(result)
}

/// Makes the commit of this transaction wait like one that has [notified](notify()) the channel
/// with this number. No subscriber is notified.
pub fn settle(conn: &mut Conn, channel: &'static str, number: i64) {
    conn.settle_after_commit(channel, number);
}

/// Announces to the subscribers of this channel, once the transaction has committed, that the thing
/// with this key has changed. Other processes learn of it a moment later, unless this process ends
/// before.
pub fn announce(conn: &mut Conn, channel: &'static str, key: Uuid) {
    conn.announce_after_commit(channel, key);
}

/// Sends this process's announcements to the others. Each message contains all announcements that
/// have accumulated since the last one, up to its limit.
async fn send(
    channel: &'static str,
    origin: Uuid,
    pool: Pool,
    mut queue: mpsc::Receiver<Uuid>,
    overflown: Arc<AtomicBool>,
) {
    let mut keys = Vec::new();
    while queue.recv_many(&mut keys, MAX_KEYS_PER_MESSAGE).await > 0 {
        keys.sort_unstable();
        keys.dedup();
        let mut payload = origin.simple().to_string();
        if overflown.swap(false, Ordering::SeqCst) {
            payload.push_str(" *");
        } else {
            for key in keys.drain(..) {
                payload.push(' ');
                payload.push_str(key.simple().encode_lower(&mut Uuid::encode_buffer()));
            }
        }
        keys.clear();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        while let Err(error) = send_once(channel, &pool, &payload).await {
            if queue.is_closed() {
                return;
            }
            tracing::debug!(channel, %error, "cannot announce; trying again");
            backoff.pause().await;
        }
    }
}

async fn send_once(channel: &'static str, pool: &Pool, payload: &str) -> Result<()> {
    let conn = &mut pool.get().await?;
    let (raw, statement) = conn.start(|| "NOTIFY");
    let result = match raw {
        Raw::Sqlite(_) => Ok(()),
        Raw::Postgres(c) => {
            let notify = prepared::<()>("SELECT pg_notify(").bind::<Text, _>(channel).text(", ");
            let notify = notify.bind::<Text, _>(payload).text(")");
            statement.run(notify.execute(c)).await.map(|_| ())
        }
    };
    statement.end(result)
}

/// Passes the server's notifications on to the hub, and reconnects after a connection was lost.
async fn listen(channel: &'static str, pool: Pool, hub: Weak<Shared>) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    while let Some(shared) = hub.upgrade() {
        let hub_now = Hub(shared);
        match open_listener(channel, &pool).await {
            Ok(mut conn) => {
                backoff.reset();
                hub_now.wake_all(channel);
                drop(hub_now);
                loop {
                    let next = async { pin!(conn.notifications_stream()).next().await };
                    match tokio::time::timeout(PROBE_INTERVAL, next).await {
                        Ok(Some(Ok(said))) => {
                            let Some(shared) = hub.upgrade() else { return };
                            Hub(shared).handle_payload(channel, &said.payload);
                        }
                        Ok(Some(Err(_)) | None) => break,
                        Err(_elapsed) => {
                            // A server in recovery sends no notifications, because no one can
                            // notify there.
                            let probe = bounded(Some(PROBE_INTERVAL), read_only(&mut conn));
                            if probe.await.unwrap_or(true) {
                                break;
                            }
                            if hub.strong_count() == 0 {
                                return;
                            }
                        }
                    }
                }
                tracing::debug!(channel, "lost the listening connection; opening another");
            }
            Err(error) => {
                drop(hub_now);
                tracing::debug!(channel, %error, "cannot listen; trying again");
            }
        }
        backoff.pause().await;
    }
}

async fn open_listener(channel: &'static str, pool: &Pool) -> Result<diesel_async::AsyncPgConnection> {
    let mut conn = pool.dedicated().await?;
    // Identifiers cannot be bound. The name is one of our own, so formatting it into the text is
    // safe.
    let listen = diesel::sql_query(format!("LISTEN \"{channel}\""));
    bounded(Some(PROBE_INTERVAL), listen.execute(&mut conn)).await?;
    Ok(conn)
}
