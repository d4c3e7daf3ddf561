//! Batched reads for concurrent calls.
//!
//! Calls that arrive during a read are answered by the next read, all with one statement. So each
//! call sees the database at a moment after its arrival, a lone call never waits, and the cost per
//! call falls as the load grows. SQLite needs no round trip, so there each call reads for itself.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
    thread,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::oneshot};
use tracing::{Instrument as _, Span};

use super::{Backend, Conn, Db, Error, Result};

/// Maximum number of keys in one statement.
const MAX_KEYS: usize = 64;

/// Function that reads the values of these keys. Keys without a value are left out of the result.
type Load<K, V> = for<'a> fn(&'a mut Conn, &'a [K]) -> BoxFuture<'a, Result<Vec<(K, V)>>>;

/// Batching reader of values by key. Clones share their batches.
pub struct Loader<K, V> {
    db: Db,
    load: Load<K, V>,
    queue: Arc<Mutex<Queue<K, V>>>,
}

/// Waiting callers, each with the requested key, the span of the call, and a sender for the answer.
type WaitingCallers<K, V> = Vec<(K, Span, oneshot::Sender<Result<Option<V>>>)>;

struct Queue<K, V> {
    waiting: WaitingCallers<K, V>,
    /// Number of tasks that are reading.
    readers: usize,
    max_readers: usize,
}

impl<K, V> Loader<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + 'static,
{
    /// Creates a loader that finds values in this database with this function.
    pub fn new(db: Db, load: Load<K, V>) -> Self {
        // A running statement keeps about one core busy, either here or on the server.
        let max_readers = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        Self {
            db,
            load,
            queue: Arc::new(Mutex::new(Queue {
                waiting: Vec::new(),
                readers: 0,
                max_readers,
            })),
        }
    }

    /// Returns the value of this key, or `None` if there is none.
    pub async fn get(&self, key: K) -> Result<Option<V>> {
        if self.db.backend() == Backend::Sqlite {
            let found = (self.load)(&mut self.db.read().await?, &[key]).await?;
            return Ok(found.into_iter().next().map(|(_, value)| value));
        }
        let (sender, answer) = oneshot::channel();
        let is_reader_needed = {
            let mut queue = self.queue.lock();
            queue.waiting.push((key, Span::current(), sender));
            let is_needed = queue.readers < queue.max_readers;
            queue.readers += usize::from(is_needed);
            is_needed
        };
        if is_reader_needed {
            // The read runs in its own task because other callers depend on it even if this call is
            // cancelled.
            tokio::spawn(self.clone().read());
        }
        answer
            .await
            .unwrap_or_else(|_| Err(Error::Internal("a read was abandoned".into())))
    }

    /// Reads until no caller is waiting.
    async fn read(self) {
        let mut reader = Reader {
            loader: self.clone(),
            is_counted: true,
        };
        while let Some(waiting) = reader.next() {
            let keys: HashSet<K> = waiting.iter().map(|(key, ..)| key.clone()).collect();
            let keys: Vec<K> = keys.into_iter().collect();
            // In traces, the read belongs to the first call of its batch.
            let span = waiting.first().map_or_else(Span::none, |(_, span, _)| span.clone());
            let read = async {
                match self.db.read().await {
                    Ok(mut conn) => (self.load)(&mut conn, &keys).await,
                    Err(error) => Err(error),
                }
            };
            let found = read.instrument(span).await;
            let found = found.map(|found| found.into_iter().collect::<HashMap<K, V>>());
            for (key, _, sender) in waiting {
                // Fails if the caller was cancelled, which is fine.
                let _ = sender.send(match &found {
                    Ok(found) => Ok(found.get(&key).cloned()),
                    Err(error) => Err(error.repeated()),
                });
            }
        }
    }
}

impl<K, V> Clone for Loader<K, V> {
    fn clone(&self) -> Self {
        Self {
            db: self.db.clone(),
            load: self.load,
            queue: Arc::clone(&self.queue),
        }
    }
}

impl<K, V> std::fmt::Debug for Loader<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("db", &self.db).finish_non_exhaustive()
    }
}

/// A reading task, counted in the queue until it ends.
struct Reader<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + 'static,
{
    loader: Loader<K, V>,
    is_counted: bool,
}

impl<K, V> Reader<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + 'static,
{
    /// Returns the next batch of waiting callers. If there are none, this reader ends, and the next
    /// caller starts another one.
    fn next(&mut self) -> Option<WaitingCallers<K, V>> {
        let mut queue = self.loader.queue.lock();
        if queue.waiting.is_empty() {
            queue.readers -= 1;
            self.is_counted = false;
            return None;
        }
        let some = queue.waiting.len().min(MAX_KEYS);
        Some(queue.waiting.drain(..some).collect())
    }
}

impl<K, V> Drop for Reader<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + 'static,
{
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        // The task panicked, or the runtime is shutting down. If callers are waiting, another
        // reader takes the place of this one.
        let mut queue = self.loader.queue.lock();
        match Handle::try_current() {
            Ok(runtime) if !queue.waiting.is_empty() => {
                drop(queue);
                runtime.spawn(self.loader.clone().read());
            }
            _ => queue.readers -= 1,
        }
    }
}
