//! The tail of the access feed. In each process, one task reads the new events and the end of the
//! log. Streams wait for this task. They read the log themselves only if they are further behind
//! than the events that the task remembers.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use access::view::{AccessView, Epoch, FeedPosition};
use base::clock::{Clock, Timestamp};
use db::{Db, SettleGuard, write_tx};
use parking_lot::Mutex;
use prost::Message as _;
use proto::auth::v1::AccessEvent;
use tokio::sync::watch;

use crate::{
    domain::{
        counts,
        error::Error,
        feed::{
            CHANNEL,
            marks::{Mark, Marks},
            revocation_life,
        },
    },
    model::FeedHead,
    store::{self, FeedRow},
};

/// Longest time for which the feed is silent. A change whose notification was lost is noticed
/// within this time, too.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Longest time for which the acknowledgement of a change waits for this process to apply the
/// change. Only an overloaded machine takes more than some milliseconds.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of events that the task remembers.
const RECENT: usize = 2048;
/// Number of sequence numbers that are read again each time. If one of them has another event than
/// before, the database has another history.
const OVERLAP: i64 = 8;
/// Number of events that a purge deletes in one transaction.
const PURGE_BATCH: i64 = 500;

/// The end of the log and its last events. Clones share one state.
#[derive(Clone, Debug)]
pub(crate) struct FeedTail {
    pub(super) state: watch::Sender<Tail>,
    marks: Arc<Mutex<Marks>>,
    pub(super) db: Db,
    pub(super) clock: Clock,
}

/// The end of the log, as far as this process has read it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    /// End of the log. `None` until the database has answered, and while it takes no writes.
    pub(super) head: Option<Head>,
    /// Position up to which the log was read. It is kept while the database takes no writes.
    known: Option<FeedPosition>,
    pub(super) recent: Arc<VecDeque<AccessEvent>>,
    /// Sequence number after which `recent` has every event.
    pub(super) complete_after: i64,
    /// Counts how often streams had to end: because the log had a new epoch or had lost its last
    /// events, as in a fail-over, or because the database took no writes.
    pub(super) generations: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) position: FeedPosition,
    pub(super) read_time: Timestamp,
    pub(super) revocation_life: Duration,
}

impl FeedTail {
    /// Creates a tail that has not read the log yet.
    pub(crate) fn new(db: Db, clock: Clock) -> Self {
        Self {
            state: watch::Sender::new(Tail::default()),
            marks: Arc::default(),
            db,
            clock,
        }
    }

    /// Follows the end of the log, forever.
    pub(crate) async fn follow(self) {
        let mut news = self.db.subscribe(CHANNEL);
        loop {
            match self.read().await {
                Ok(tail) => {
                    counts::feed_head(tail.head.map_or(0, |head| head.position.sequence));
                    self.state.send_replace(tail);
                }
                // A standby may lag behind, and a promotion may replace its history, so the streams
                // end.
                Err(error @ db::Error::ReadOnly(_)) => {
                    tracing::warn!(%error, "cannot read the access feed; trying again");
                    self.state.send_modify(|tail| {
                        tail.generations += u64::from(tail.head.is_some());
                        tail.head = None;
                    });
                }
                // The streams fall silent, which their followers notice, and later continue where
                // they were.
                Err(error) => tracing::warn!(%error, "cannot read the access feed; trying again"),
            }
            news.notified_within(HEARTBEAT).await;
        }
    }

    /// Records the end of the log. Deletes expired events that this process has seen for as long as
    /// they must be kept.
    pub(crate) async fn purge(&self) -> Result<(), Error> {
        let generation = self.state.borrow().generations;
        let head = store::feed_head(&mut self.db.read().await?).await?;
        let head = head.ok_or(db::Error::NotFound)?;
        let mark = Mark {
            position: position_of(&head),
            generation,
            at: self.clock.monotonic(),
        };
        let marks = || self.marks.lock();
        let Some(seen) = marks().pass(mark, revocation_life(&head)) else {
            return Ok(());
        };
        let mut from = Timestamp::EPOCH;
        loop {
            let Some(settled) = self.db.settled(&self.clock).await? else {
                return Ok(());
            };
            let deleted: Result<_, Error> = write_tx!(self.db, |tx| {
                // The head is locked first, as in transactions that publish. They wait for this
                // one, so it is short.
                let head = store::feed_head_lock(tx).await?;
                if !seen.goes_on_in(position_of(&head), self.state.borrow().generations) {
                    return Ok(None);
                }
                Ok(store::feed_purge(tx, from, settled.past(), seen.position.sequence, PURGE_BATCH).await?)
            });
            let Some(last) = deleted? else {
                return Ok(());
            };
            from = last;
            tokio::task::yield_now().await;
        }
    }

    async fn read(&self) -> db::Result<Tail> {
        let before = self.state.borrow().clone();
        let mut conn = self.db.scan().await?;
        // The head is read first, so that the events up to it can be read afterwards.
        let mut head = store::feed_head(&mut conn).await?.ok_or(db::Error::NotFound)?;
        let known = before.known.filter(|known| known.epoch == head.epoch);
        let after = known.map_or(head.sequence, |known| known.sequence) - OVERLAP;
        let mut rows = store::feed_after(&mut conn, after, limit(RECENT)).await?;
        if let Some(known) = known
            && !before.goes_on_in(&head, &rows, known.sequence)
        {
            drop(conn);
            head = self.begin_history(known.epoch).await?;
            rows = store::feed_after(&mut self.db.scan().await?, head.sequence - OVERLAP, limit(RECENT)).await?;
        }
        let read_time = self.clock.now();
        let revocation_life = revocation_life(&head);
        let mut at = position_of(&head);
        let Some(known) = known.filter(|known| known.epoch == head.epoch) else {
            return Ok(Tail {
                head: Some(Head {
                    position: at,
                    read_time,
                    revocation_life,
                }),
                known: Some(at),
                recent: Arc::new(rows.iter().filter_map(event).collect()),
                complete_after: head.sequence - OVERLAP,
                generations: before.generations + u64::from(before.known.is_some()),
            });
        };
        let mut tail = Tail { head: None, ..before };
        let news = || rows.iter().filter(|row| row.sequence > known.sequence);
        if head.sequence > known.sequence {
            let is_all = rows.len() < RECENT;
            let recent = Arc::make_mut(&mut tail.recent);
            for row in news() {
                at.sequence = at.sequence.max(row.sequence);
                recent.extend(event(row));
            }
            if is_all {
                while recent.len() > RECENT {
                    if let Some(oldest) = recent.pop_front() {
                        tail.complete_after = oldest.sequence;
                    }
                }
            } else {
                // There are too many events at once. Streams that are behind read the log.
                recent.clear();
                tail.complete_after = at.sequence;
            }
        }
        tail.head = Some(Head {
            position: at,
            read_time,
            revocation_life,
        });
        tail.known = Some(at);
        Ok(tail)
    }

    /// Replaces the epoch of the log, if it still is `epoch`, because the database no longer has
    /// that history. The database was restored from a backup, or a standby was promoted that lacked
    /// the last commits. All followers then read the log from its beginning, even those that cannot
    /// tell the two histories apart.
    async fn begin_history(&self, epoch: Epoch) -> db::Result<FeedHead> {
        write_tx!(self.db, |tx| {
            let head = store::feed_head_lock(tx).await?;
            if head.epoch != epoch {
                return Ok(head);
            }
            tracing::warn!("the access feed has lost changes that this process has seen; it gets a new epoch");
            store::feed_head_set_epoch(tx, Epoch::generate()).await
        })
    }

    /// Makes the acknowledgement of each change wait until this process has applied it. So this
    /// process does not accept a token whose revocation has been acknowledged.
    pub(super) fn settle_commits(&self, view: &AccessView) -> SettleGuard {
        let view = view.clone();
        self.db.settle_commits(CHANNEL, move |sequence| {
            let view = view.clone();
            async move {
                // A view that is stuck reports it itself, and the change is committed all the same.
                let _ = tokio::time::timeout(SETTLE_TIMEOUT, view.reached(sequence)).await;
            }
        })
    }
}

impl Tail {
    /// Returns whether the log with this head still contains everything up to `known`. `rows` are
    /// its events from [`OVERLAP`] numbers before `known` on.
    fn goes_on_in(&self, head: &FeedHead, rows: &[FeedRow], known: i64) -> bool {
        let is_known = |row: &FeedRow| {
            row.sequence > known
                || row.sequence <= self.complete_after
                || event(row).is_none_or(|event| self.recent.iter().rev().any(|known| *known == event))
        };
        head.sequence >= known && rows.iter().all(is_known)
    }
}

const fn position_of(head: &FeedHead) -> FeedPosition {
    FeedPosition {
        epoch: head.epoch,
        sequence: head.sequence,
    }
}

/// Decodes the event of a row. An unreadable event is logged and left out, so that followers still
/// receive the others.
pub(super) fn event(row: &FeedRow) -> Option<AccessEvent> {
    match AccessEvent::decode(row.event.as_slice()) {
        Ok(event) => Some(AccessEvent {
            sequence: row.sequence,
            ..event
        }),
        Err(error) => {
            tracing::error!(%error, sequence = row.sequence, "cannot read an event of the access feed");
            None
        }
    }
}

pub(super) fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
