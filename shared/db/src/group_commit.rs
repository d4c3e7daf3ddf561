//! Group commit: writes of many calls in one transaction.
//!
//! A small transaction costs PostgreSQL several times what its rows cost. A write that arrives
//! while no transaction is running starts at once. Later ones wait and share the next transaction.
//! So a single call does not wait, and the more calls there are, the less each one costs. SQLite
//! commits cheaply and has a single writer, so there each write has its own transaction.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    future::Future,
    sync::Arc,
    thread,
};

use base::telemetry::traces;
use metrics::{Counter, counter, describe_counter};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::oneshot};
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::{Backend, Db, Error, Result};

/// Maximum number of writes in one transaction.
const MAX_GROUP: usize = 32;
/// Maximum number of waiting writes. A further one is refused.
const MAX_WAITING: usize = 4096;
const GROUPS: &str = "db_group_commits_total";
const WRITES: &str = "db_group_commit_writes_total";

/// One kind of write, done alone or for many calls at once.
pub trait GroupWriter: Send + Sync + 'static {
    /// Write, with all the data that it needs.
    type Write: Send + Sync + 'static;
    /// Value for the caller once the write is committed.
    type Output: Send + 'static;
    /// Error for the caller.
    type Error: From<Error> + Send + 'static;

    /// Returns the ids of the rows that the write locks. Running groups never share a row: a write
    /// to a row of a running group waits for a later group.
    fn rows(&self, write: &Self::Write) -> Vec<Uuid>;

    /// Does one write in its own transaction. It may wait for rows that others have locked.
    fn write_alone(
        &self,
        write: &Self::Write,
    ) -> impl Future<Output = std::result::Result<Self::Output, Self::Error>> + Send;

    /// Does several writes in one transaction, and returns an outcome for each, in the same order:
    /// `None` for a write that must be retried alone, for example because its row is locked. A
    /// write whose outcome is an error must not have changed anything that matters.
    ///
    /// Locks rows in the order of their ids, so that two groups never wait for each other.
    fn write_together(
        &self,
        writes: &[Self::Write],
    ) -> impl Future<Output = Result<Vec<Option<GroupOutcome<Self>>>>> + Send;
}

/// Outcome of one write.
pub type GroupOutcome<W> = std::result::Result<<W as GroupWriter>::Output, <W as GroupWriter>::Error>;

/// Does the writes of many calls together. Clones share one queue.
pub struct GroupCommit<W: GroupWriter>(Arc<Shared<W>>);

struct Shared<W: GroupWriter> {
    backend: Backend,
    writer: W,
    queue: Mutex<Queue<W>>,
    groups: Counter,
    writes: Counter,
}

struct Queue<W: GroupWriter> {
    waiting: VecDeque<Waiting<W>>,
    /// Rows of the running groups.
    busy: HashSet<Uuid>,
    /// Running writer tasks. If writes wait, either the maximum number of tasks is running, or the
    /// rows of those writes are locked by a running group.
    tasks: usize,
    max_tasks: usize,
}

/// A write whose caller waits for it.
struct Waiting<W: GroupWriter> {
    write: W::Write,
    rows: Vec<Uuid>,
    caller: Caller<W>,
}

struct Caller<W: GroupWriter> {
    span: Span,
    outcome: oneshot::Sender<GroupOutcome<W>>,
}

impl<W: GroupWriter> GroupCommit<W> {
    /// Creates the queue of one kind of write. `kind` names it in the metrics.
    pub fn new(db: &Db, kind: &'static str, writer: W) -> Self {
        describe_counter!(
            GROUPS,
            "Number of transactions that did the writes of one or more calls together, by `kind` of write."
        );
        describe_counter!(
            WRITES,
            "Number of writes that were done in group commits, by `kind` of write."
        );
        // A transaction keeps about one core busy, here or in PostgreSQL. A second one can run
        // while the first waits for the disk.
        let max_tasks = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        let max_tasks = max_tasks.max(2);
        Self(Arc::new(Shared {
            backend: db.backend(),
            writer,
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                busy: HashSet::new(),
                tasks: 0,
                max_tasks,
            }),
            groups: counter!(GROUPS, "kind" => kind),
            writes: counter!(WRITES, "kind" => kind),
        }))
    }

    /// Does a write, together with others if several arrive at once.
    ///
    /// If the caller is cancelled before its group begins, the write is dropped. Later, it is done
    /// in any case.
    pub async fn write(&self, write: W::Write) -> GroupOutcome<W> {
        if self.0.backend == Backend::Sqlite {
            return self.0.writer.write_alone(&write).await;
        }
        let (outcome, answer) = oneshot::channel();
        let span = Span::current();
        let rows = self.0.writer.rows(&write);
        let is_task_needed = {
            let mut queue = self.0.queue.lock();
            if queue.waiting.len() >= MAX_WAITING {
                return Err(Error::Overloaded("too many writes are waiting".to_owned()).into());
            }
            queue.waiting.push_back(Waiting {
                write,
                rows,
                caller: Caller { span, outcome },
            });
            let is_needed = queue.tasks < queue.max_tasks;
            queue.tasks += usize::from(is_needed);
            is_needed
        };
        if is_task_needed {
            tokio::spawn(self.clone().write_waiting());
        }
        answer
            .await
            .unwrap_or_else(|_| Err(Error::Internal("a write was abandoned".into()).into()))
    }

    /// Writes one group after the other until no write waits.
    async fn write_waiting(self) {
        let mut task = Task {
            commit: self.clone(),
            rows: Vec::new(),
            is_counted: true,
        };
        while let Some(group) = task.next() {
            let (writes, callers): (Vec<_>, Vec<_>) = group.into_iter().map(|it| (it.write, it.caller)).unzip();
            let span = group_span(callers.iter().map(|caller| &caller.span), writes.len());
            let outcomes = self.0.writer.write_together(&writes).instrument(span).await;
            task.release();
            if let Ok(outcomes) = &outcomes {
                let done = outcomes.iter().filter(|outcome| matches!(outcome, Some(Ok(_)))).count();
                self.0.groups.increment(1);
                self.0.writes.increment(u64::try_from(done).unwrap_or(u64::MAX));
            }
            self.answer(writes, callers, outcomes);
        }
    }

    /// Tells each caller the outcome, or retries its write alone in another task, so that the next
    /// group does not wait.
    fn answer(&self, writes: Vec<W::Write>, callers: Vec<Caller<W>>, outcomes: Result<Vec<Option<GroupOutcome<W>>>>) {
        let is_alone = writes.len() == 1;
        let mut once_more = Vec::new();
        match outcomes {
            Ok(mut outcomes) => {
                outcomes.resize_with(writes.len(), || None);
                for ((write, caller), outcome) in writes.into_iter().zip(callers).zip(outcomes) {
                    match outcome {
                        Some(outcome) => caller.tell(outcome),
                        None => once_more.push((write, caller)),
                    }
                }
                // These writes do not depend on each other.
                for (write, caller) in once_more {
                    tokio::spawn(self.clone().write_one(write, caller));
                }
            }
            // A retry would fail in the same way, unless a statement timed out because it waited
            // for one write's row.
            Err(error) if is_alone || (error.is_outage() && !error.is_statement_timeout()) => {
                for caller in callers {
                    caller.tell(Err(error.repeated().into()));
                }
            }
            // One write may have failed the group. They are retried one at a time, because they
            // may conflict.
            Err(error) => {
                tracing::debug!(%error, writes = writes.len(), "a group of writes failed; each is retried alone");
                let commit = self.clone();
                tokio::spawn(async move {
                    for (write, caller) in writes.into_iter().zip(callers) {
                        // In its own task, so that a panic does not affect the other writes.
                        let _ = tokio::spawn(commit.clone().write_one(write, caller)).await;
                    }
                });
            }
        }
    }

    async fn write_one(self, write: W::Write, caller: Caller<W>) {
        if caller.outcome.is_closed() {
            return;
        }
        let outcome = self.0.writer.write_alone(&write).instrument(caller.span.clone()).await;
        caller.tell(outcome);
    }
}

/// Creates the span of a transaction for several calls. It belongs to the first call's trace, and
/// links to the other calls.
fn group_span<'a>(mut callers: impl Iterator<Item = &'a Span>, writes: usize) -> Span {
    let Some(first) = callers.next() else {
        return Span::none();
    };
    if first.is_disabled() {
        return Span::none();
    }
    let span = tracing::debug_span!(target: traces::SQL, parent: first, "group commit", writes);
    for other in callers {
        span.follows_from(other);
    }
    span
}

impl<W: GroupWriter> Clone for GroupCommit<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: GroupWriter> fmt::Debug for GroupCommit<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit").finish_non_exhaustive()
    }
}

impl<W: GroupWriter> Caller<W> {
    fn tell(self, outcome: GroupOutcome<W>) {
        // The caller may have been cancelled.
        let _ = self.outcome.send(outcome);
    }
}

impl<W: GroupWriter> Queue<W> {
    /// Takes the next group out of the queue. Leaves out writes whose callers are gone, and keeps
    /// writes to the same row in their order.
    fn take_group(&mut self) -> Vec<Waiting<W>> {
        let mut group: Vec<Waiting<W>> = Vec::new();
        let mut taken = HashSet::new();
        let mut later = VecDeque::new();
        while group.len() < MAX_GROUP
            && let Some(next) = self.waiting.pop_front()
        {
            if next.caller.outcome.is_closed() {
                continue;
            }
            let is_free = !next
                .rows
                .iter()
                .any(|row| taken.contains(row) || self.busy.contains(row));
            // Also reserve the rows of a write that must wait, so that later writes do not overtake
            // it.
            taken.extend(next.rows.iter().copied());
            if is_free {
                group.push(next);
            } else {
                later.push_back(next);
            }
        }
        later.append(&mut self.waiting);
        self.waiting = later;
        self.busy
            .extend(group.iter().flat_map(|write| write.rows.iter().copied()));
        group
    }
}

/// Task that writes groups.
struct Task<W: GroupWriter> {
    commit: GroupCommit<W>,
    /// Rows of the running group.
    rows: Vec<Uuid>,
    is_counted: bool,
}

impl<W: GroupWriter> Task<W> {
    /// Returns the next group. If no write can start, this task ends; the next write or the end of
    /// another group continues.
    fn next(&mut self) -> Option<Vec<Waiting<W>>> {
        let mut queue = self.commit.0.queue.lock();
        let group = queue.take_group();
        if group.is_empty() {
            queue.tasks -= 1;
            self.is_counted = false;
            return None;
        }
        self.rows = group.iter().flat_map(|write| write.rows.iter().copied()).collect();
        Some(group)
    }

    /// Frees the rows of the group that has ended.
    fn release(&mut self) {
        let mut queue = self.commit.0.queue.lock();
        for row in self.rows.drain(..) {
            queue.busy.remove(&row);
        }
    }
}

impl<W: GroupWriter> Drop for Task<W> {
    fn drop(&mut self) {
        self.release();
        if !self.is_counted {
            return;
        }
        // The task panicked, or the runtime is shutting down.
        let mut queue = self.commit.0.queue.lock();
        match Handle::try_current() {
            Ok(runtime) if !queue.waiting.is_empty() => {
                drop(queue);
                runtime.spawn(self.commit.clone().write_waiting());
            }
            _ => queue.tasks -= 1,
        }
    }
}
