//! Group commit: writes of many calls in one transaction.
//!
//! A small transaction costs PostgreSQL several times what its rows cost. A write that comes while
//! none is under way goes at once. Writes that come meanwhile wait, and go together in the next
//! transaction. So a call alone waits for nobody, and the more calls there are, the less each one
//! costs. SQLite commits cheaply and has a single writer, so there each write goes by itself.

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

/// Writes of one transaction, at most.
const MAX_GROUP: usize = 32;
/// Writes that may wait, at most. A further one is refused.
const MAX_WAITING: usize = 4096;
const GROUPS: &str = "db_group_commits_total";
const WRITES: &str = "db_group_commit_writes_total";

/// One kind of write that is done for many calls at once.
pub trait GroupWriter: Send + Sync + 'static {
    /// A write, with all that it needs.
    type Write: Send + Sync + 'static;
    /// Value for the caller once the write is committed.
    type Output: Send + 'static;
    /// Error for the caller.
    type Error: From<Error> + Send + 'static;

    /// Ids of the rows that the write locks. No two writes that are under way have one in common:
    /// the later one goes in a later group.
    fn rows(&self, write: &Self::Write) -> Vec<Uuid>;

    /// Does one write in a transaction of its own. It may wait for rows that others have locked.
    fn write_alone(
        &self,
        write: &Self::Write,
    ) -> impl Future<Output = std::result::Result<Self::Output, Self::Error>> + Send;

    /// Does several writes in one transaction, and returns an outcome for each, in the same order:
    /// `None` for a write that is to be done alone, for example because its row is locked. An
    /// outcome that is an error must leave nothing written that matters.
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
    /// Rows of the groups that are under way.
    busy: HashSet<Uuid>,
    /// Tasks that write. While a write waits, there are as many as there may be, or its row belongs
    /// to a group that is under way.
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
        // A transaction keeps about one processor busy, on one side or the other. A second one goes
        // on while the first waits for the disk.
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

    /// Does a write, together with others if several come at once.
    ///
    /// A caller that is cancelled before its group begins takes the write back. Later on the write
    /// goes through in any case.
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
                return Err(Error::Overloaded("too many writes wait for their turn".to_owned()).into());
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

    /// Tells each caller of a group the outcome, or does its write once more by itself: without
    /// keeping the next group waiting.
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
                // Nothing keeps these from each other.
                for (write, caller) in once_more {
                    tokio::spawn(self.clone().write_one(write, caller));
                }
            }
            // The same would happen again. Not so if one statement took too long, which may have
            // waited for the row of a single write.
            Err(error) if is_alone || (error.is_outage() && !error.is_statement_timeout()) => {
                for caller in callers {
                    caller.tell(Err(error.repeated().into()));
                }
            }
            // One write may have failed all of them, so each is tried by itself. One after the
            // other, because they may have failed each other.
            Err(error) => {
                tracing::debug!(%error, writes = writes.len(), "a group of writes failed; each is tried by itself");
                let commit = self.clone();
                tokio::spawn(async move {
                    for (write, caller) in writes.into_iter().zip(callers) {
                        // In a task of its own, so that a panic takes no other write along.
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

/// The span of a transaction for several calls. It belongs to the first call's trace, and links to
/// the other calls.
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
            // Also those of a write that has to wait: what comes after it does not overtake it.
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

/// A task that writes.
struct Task<W: GroupWriter> {
    commit: GroupCommit<W>,
    /// Rows of the group that is under way.
    rows: Vec<Uuid>,
    is_counted: bool,
}

impl<W: GroupWriter> Task<W> {
    /// Returns the next group. If no write waits, or only for groups of other tasks, this task is
    /// done. The next write, or the end of those groups, goes on.
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

    /// Frees the rows of the group that was under way.
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
        // It panicked, or the runtime ends.
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
