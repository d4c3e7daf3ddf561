//! Reads for many calls at once.
//!
//! Calls that come while a read is on its way are answered by the next one, all of them by one
//! statement. So each sees the database as it was after it came, a call alone waits for nobody, and
//! the more there are, the less each costs. SQLite, which has no way to go, is asked for each call.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
    thread,
};

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::{Backend, Conn, Db, Error, Result};

/// Keys of one statement.
const KEYS: usize = 64;

/// Reads what belongs to these keys; what there is not is left out.
type Load<K, V> = for<'a> fn(&'a mut Conn, &'a [K]) -> BoxFuture<'a, Result<Vec<(K, V)>>>;

/// Finds values by their keys. Clones work together.
pub struct Loader<K, V> {
    db: Db,
    load: Load<K, V>,
    queue: Arc<Mutex<Queue<K, V>>>,
}

/// Callers that wait, each with the key that it asked for.
type Asked<K, V> = Vec<(K, Span, oneshot::Sender<Result<Option<V>>>)>;

struct Queue<K, V> {
    waiting: Asked<K, V>,
    /// Tasks that read.
    readers: usize,
    max_readers: usize,
}

impl<K, V> Loader<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + 'static,
{
    /// Finds values in this database by this function.
    pub fn new(db: Db, load: Load<K, V>) -> Self {
        // A statement keeps about one processor busy, on one side or the other.
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

    /// The value of this key.
    pub async fn get(&self, key: K) -> Result<Option<V>> {
        if self.db.backend() == Backend::Sqlite {
            let found = (self.load)(&mut self.db.read().await?, &[key]).await?;
            return Ok(found.into_iter().next().map(|(_, value)| value));
        }
        let (sender, answer) = oneshot::channel();
        let is_reader_needed = {
            let mut queue = lock(&self.queue);
            queue.waiting.push((key, Span::current(), sender));
            let is_needed = queue.readers < queue.max_readers;
            queue.readers += usize::from(is_needed);
            is_needed
        };
        if is_reader_needed {
            // In a task of its own: others wait for it, whatever becomes of this call.
            tokio::spawn(self.clone().read());
        }
        answer
            .await
            .unwrap_or_else(|_| Err(Error::Internal("a read was abandoned".into())))
    }

    /// Reads until nobody waits.
    async fn read(self) {
        let mut reader = Reader {
            queue: Arc::clone(&self.queue),
            is_counted: true,
        };
        while let Some(waiting) = reader.next() {
            let keys: HashSet<K> = waiting.iter().map(|(key, ..)| key.clone()).collect();
            let keys: Vec<K> = keys.into_iter().collect();
            // In the trace it is the first one's.
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
                // Whoever waited may be gone.
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

/// A task that reads.
struct Reader<K, V> {
    queue: Arc<Mutex<Queue<K, V>>>,
    is_counted: bool,
}

impl<K, V> Reader<K, V> {
    /// Returns the callers that wait now. If there are none, this reader is done, and the next
    /// caller starts another one.
    fn next(&mut self) -> Option<Asked<K, V>> {
        let mut queue = lock(&self.queue);
        if queue.waiting.is_empty() {
            queue.readers -= 1;
            self.is_counted = false;
            return None;
        }
        let some = queue.waiting.len().min(KEYS);
        Some(queue.waiting.drain(..some).collect())
    }
}

impl<K, V> Drop for Reader<K, V> {
    fn drop(&mut self) {
        if self.is_counted {
            // It panicked, or the runtime ends. Whoever comes next starts another one.
            lock(&self.queue).readers -= 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done in there.
    mutex.lock()
}
