//! The end of the access feed: one task a process reads what is new and how far the log has come.
//! The streams wait for it, and read the log themselves only where they are further behind than
//! what it remembers.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use access::view::{AccessView, Epoch, FeedPosition};
use base::clock::{Clock, Timestamp};
use db::{Db, write_tx};
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

/// How long the feed is silent at most. Also how soon a change is seen whose notification was lost.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a change waits to be seen by this process before it is acknowledged nevertheless.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Events that the task remembers.
const RECENT: usize = 2048;
/// Numbers whose events are read again each time. If one of them is another event than before, the
/// database has another history.
const OVERLAP: i64 = 8;

/// How far the log has come, and its last events. Clones share it.
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
    /// `None` until the database has answered, and while it takes no writes.
    pub(super) head: Option<Head>,
    /// How far the log was read. Stays while the database takes no writes.
    known: Option<FeedPosition>,
    pub(super) recent: Arc<VecDeque<AccessEvent>>,
    /// Every event after this one is in `recent`.
    pub(super) complete_after: i64,
    /// Counts how often the log was found to have begun anew, or to have lost its end, as by a
    /// fail-over.
    pub(super) lives: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) position: FeedPosition,
    pub(super) read_time: Timestamp,
    pub(super) revocation_life: Duration,
}

impl FeedTail {
    /// Knows nothing yet.
    pub(crate) fn new(db: Db, clock: Clock) -> Self {
        Self {
            state: watch::Sender::new(Tail::default()),
            marks: Arc::default(),
            db,
            clock,
        }
    }

    /// Follows the end of the log, for ever.
    pub(crate) async fn follow(self) {
        let mut news = self.db.subscribe(CHANNEL);
        loop {
            match self.read().await {
                Ok(tail) => {
                    counts::feed_head(tail.head.map_or(0, |head| head.position.sequence));
                    self.state.send_replace(tail);
                }
                // A standby may lag, and its history may be replaced after a promotion: the streams
                // end.
                Err(error @ db::Error::ReadOnly(_)) => {
                    tracing::warn!(%error, "cannot read the access feed; trying again");
                    self.state.send_modify(|tail| {
                        tail.lives += u64::from(tail.head.is_some());
                        tail.head = None;
                    });
                }
                // The streams fall silent, which tells their consumers, and go on where they were.
                Err(error) => tracing::warn!(%error, "cannot read the access feed; trying again"),
            }
            news.notified_within(HEARTBEAT).await;
        }
    }

    /// Notes how far the log has come, and deletes what says nothing more of what this process has
    /// seen for as long as it has to be kept.
    pub(crate) async fn purge(&self) -> Result<(), Error> {
        let life = self.state.borrow().lives;
        let head = store::feed_head(&mut self.db.read().await?).await?;
        let head = head.ok_or(db::Error::NotFound)?;
        let mark = Mark {
            position: position_of(&head),
            life,
            at: self.clock.monotonic(),
        };
        let marks = || self.marks.lock();
        let Some(seen) = marks().pass(mark, revocation_life(&head)) else {
            return Ok(());
        };
        let Some(settled) = self.db.settled(&self.clock).await? else {
            return Ok(());
        };
        write_tx!(self.db, |tx| {
            // First the head, as whoever publishes.
            let head = store::feed_head_lock(tx).await?;
            if seen.goes_on_in(position_of(&head), self.state.borrow().lives) {
                store::feed_purge(tx, settled.past(), seen.position.sequence).await?;
            }
            Ok(())
        })
    }

    async fn read(&self) -> db::Result<Tail> {
        let before = self.state.borrow().clone();
        let mut conn = self.db.scan().await?;
        // First the head: whatever it counts can be read afterwards.
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
                lives: before.lives + u64::from(before.known.is_some()),
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
                // Too much at once: whoever is behind reads the log.
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

    /// Gives the log another epoch if it has this one, whose history is not that of the database
    /// any more: a database was put back, or a standby was promoted that lacked the last commits.
    /// All who follow the log then read it from its beginning, also those who cannot tell one
    /// history from the other.
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

    /// From now on a change is acknowledged once this process goes by it: whoever was told that a
    /// token is worthless shall not see it accepted here.
    pub(crate) fn settle_commits(&self, view: &AccessView) {
        let view = view.clone();
        self.db.settle_commits(CHANNEL, move |sequence| {
            let view = view.clone();
            async move {
                // A view that is stuck says so itself, and the change is made.
                let _ = tokio::time::timeout(SETTLE_TIMEOUT, view.reached(sequence)).await;
            }
        });
    }
}

impl Tail {
    /// Whether the log that ends here, and begins with these rows after [`OVERLAP`], contains
    /// everything up to `known`.
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

/// The event of a row. One that cannot be read is left out, rather than that nobody hears of
/// anything any more.
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
