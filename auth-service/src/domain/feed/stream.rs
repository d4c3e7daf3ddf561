//! Reads the access feed: first everything that is known, then every change.
//!
//! The log is compacted (one row a subject, the latest), so everything that is known is the log from its beginning. One task a process
//! reads what is new and how far the log has come; the streams wait for it, and read the log themselves only where they are
//! further behind than what that task remembers.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use access::view::{AccessView, Epoch, Position};
use base::clock::{Clock, Timestamp};
use db::{Db, write_tx};
use parking_lot::Mutex;
use prost::Message as _;
use proto::auth::v1::{AccessEvent, WatchResponse};
use tokio::sync::watch;

use crate::{
    domain::{
        counts,
        error::Error,
        feed::{CHANNEL, USER_CHANGED, revocation_life},
    },
    store::{self, FeedHead, FeedRow},
};

/// How long the feed is silent at most. Also how soon a change is seen whose notification was lost.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Before a reading that has ended begins anew.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a change waits to be seen by this process before it is acknowledged nevertheless.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Events of one message.
const PAGE: usize = 500;
/// Bytes of the events of one message, but for a single one that is longer. Followers take 16 MiB.
const PAGE_BYTES: usize = 1024 * 1024;
/// Events that the task remembers.
const RECENT: usize = 2048;
/// Numbers whose events are read again each time. If one of them is another event than before, the database has another history.
const OVERLAP: i64 = 8;

/// How far the log has come, and its last events. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct FeedTail {
    state: watch::Sender<Tail>,
    marks: Arc<Mutex<Marks>>,
    db: Db,
    clock: Clock,
}

/// What is known of the end of the log.
#[derive(Clone, Debug, Default)]
struct Tail {
    /// `None` until the database has answered, and while it takes no writes.
    head: Option<Head>,
    /// How far the log was read. Stays while the database takes no writes.
    known: Option<Position>,
    recent: Arc<VecDeque<AccessEvent>>,
    /// Every event after this one is in `recent`.
    complete_after: i64,
    /// Counts how often the log was found to have begun anew, or to have lost its end, as by a fail-over.
    lives: u64,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    position: Position,
    read_time: Timestamp,
    revocation_life: Duration,
}

/// How far the log had come at the last passes of the purge, and when by the monotonic clock: the oldest
/// first. What a clock says once deletes nothing: an event goes only once this process itself has seen
/// it for as long as it has to be kept.
#[derive(Debug, Default)]
struct Marks(VecDeque<Mark>);

#[derive(Clone, Copy, Debug)]
struct Mark {
    position: Position,
    life: u64,
    at: Duration,
}

/// One consumer's reading of the feed.
#[derive(Debug)]
pub(crate) struct FeedStream {
    tail: FeedTail,
    changes: watch::Receiver<Tail>,
    /// Renames and deletions up to here are known to the consumer.
    known_names: Option<Position>,
    stage: Stage,
    /// The life of the log in which the reading began.
    life: u64,
}

#[derive(Debug)]
enum Stage {
    /// Everything up to here was sent.
    Snapshot(Option<Position>),
    Live(Position),
}

/// Why a reading ends. The consumer asks again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedEnded {
    /// The database does not answer.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// The feed has begun a new life, or has lost its end.
    #[error("the access feed has a new epoch")]
    NewEpoch,
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
                // A standby may lag, and its history may be replaced after a promotion: the streams end.
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

    /// Gives the log another epoch if it has this one, whose history is not that of the database any more: a database was put
    /// back, or a standby was promoted that lacked the last commits. All who follow the log then read it from its beginning, also
    /// those who cannot tell one history from the other.
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

    /// Lets this process's own view follow the log, for ever.
    pub(crate) async fn fill(self, view: AccessView) {
        loop {
            let mut stream = self.stream(view.position());
            let mut intake = view.intake();
            let ended: Box<dyn std::error::Error + Send> = loop {
                match stream.next().await {
                    Ok(message) => {
                        if let Err(error) = intake.apply(message) {
                            break Box::new(error);
                        }
                    }
                    Err(ended) => break Box::new(ended),
                }
            };
            tracing::warn!(error = %ended, "reading the access feed from the beginning");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// From now on a change is acknowledged once this process goes by it: whoever was told that a token is worthless shall not see it accepted here.
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

    /// A reading for a consumer that stands here.
    pub(crate) fn stream(&self, known: Option<Position>) -> FeedStream {
        let changes = self.state.subscribe();
        let life = changes.borrow().lives;
        FeedStream {
            changes,
            tail: self.clone(),
            known_names: known,
            stage: Stage::Snapshot(None),
            life,
        }
    }
}

impl Tail {
    /// Whether the log that ends here, and begins with these rows after [`OVERLAP`], contains everything up to `known`.
    fn goes_on_in(&self, head: &FeedHead, rows: &[FeedRow], known: i64) -> bool {
        let is_known = |row: &FeedRow| {
            row.sequence > known
                || row.sequence <= self.complete_after
                || event(row).is_none_or(|event| self.recent.iter().rev().any(|known| *known == event))
        };
        head.sequence >= known && rows.iter().all(is_known)
    }
}

impl FeedStream {
    /// The next message. Returns within about a second.
    pub(crate) async fn next(&mut self) -> Result<WatchResponse, FeedEnded> {
        match self.stage {
            Stage::Snapshot(sent) => self.snapshot(sent).await,
            Stage::Live(sent) => self.live(sent).await,
        }
    }

    async fn snapshot(&mut self, sent: Option<Position>) -> Result<WatchResponse, FeedEnded> {
        let mut conn = self.tail.db.scan().await?;
        let head = store::feed_head(&mut conn).await?.ok_or(db::Error::NotFound)?;
        let sent = match sent {
            None => Position {
                epoch: head.epoch,
                sequence: 0,
            },
            Some(sent) if sent.epoch == head.epoch => sent,
            Some(_) => return Err(FeedEnded::NewEpoch),
        };
        let mut rows = store::feed_after(&mut conn, sent.sequence, limit(PAGE)).await?;
        drop(conn);
        let is_full = rows.len() == PAGE;
        let is_caught_up = !cut(&mut rows) && !is_full;
        let mut at = rows.last().map_or(sent.sequence, |row| row.sequence);
        if is_caught_up {
            // The numbers in between are of events that others have replaced.
            at = at.max(head.sequence);
        }
        let at = Position {
            epoch: head.epoch,
            sequence: at,
        };
        let now = self.tail.clock.now();
        // A cursor past the end is of another life of the database.
        let known_names = self
            .known_names
            .filter(|known| known.epoch == at.epoch && known.sequence <= head.sequence);
        // Whatever the clock says of an event, it is sent as long as it is there: the purge knows when it is over.
        let is_news = |row: &FeedRow| {
            !(row.kind == USER_CHANGED && known_names.is_some_and(|known| row.sequence <= known.sequence))
        };
        self.stage = if is_caught_up {
            Stage::Live(at)
        } else {
            Stage::Snapshot(Some(at))
        };
        Ok(WatchResponse {
            epoch: at.epoch.to_string(),
            sequence: at.sequence,
            events: rows.iter().filter(|row| is_news(row)).filter_map(event).collect(),
            is_snapshot: true,
            is_caught_up,
            server_time: Some(now.into()),
            revocation_seconds: whole_seconds(revocation_life(&head)),
        })
    }

    async fn live(&mut self, sent: Position) -> Result<WatchResponse, FeedEnded> {
        // The task that sends lives as long as the process; should it end, there is nothing more to say.
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let tail = self.changes.borrow_and_update().clone();
        let Some(head) = tail.head else {
            return Err(db::Error::Unavailable("the access feed cannot be read".to_owned()).into());
        };
        if tail.lives != self.life || head.position.epoch != sent.epoch {
            return Err(FeedEnded::NewEpoch);
        }
        let mut at = head.position;
        let mut is_caught_up = true;
        let events: Vec<AccessEvent> = if at.sequence <= sent.sequence {
            at = sent;
            Vec::new()
        } else if sent.sequence >= tail.complete_after {
            tail.recent
                .iter()
                .filter(|event| event.sequence > sent.sequence)
                .cloned()
                .collect()
        } else {
            let mut conn = self.tail.db.scan().await?;
            let mut rows = store::feed_after(&mut conn, sent.sequence, limit(PAGE)).await?;
            let is_full = rows.len() == PAGE;
            if cut(&mut rows) || is_full {
                is_caught_up = false;
                // What follows is there already.
                self.changes.mark_changed();
                at.sequence = rows.last().map_or(sent.sequence, |row| row.sequence);
            } else {
                at.sequence = rows.last().map_or(at.sequence, |row| row.sequence.max(at.sequence));
            }
            rows.iter().filter_map(event).collect()
        };
        self.stage = Stage::Live(at);
        Ok(WatchResponse {
            epoch: at.epoch.to_string(),
            sequence: at.sequence,
            events,
            is_snapshot: false,
            is_caught_up,
            server_time: Some(head.read_time.into()),
            revocation_seconds: whole_seconds(head.revocation_life),
        })
    }
}

impl Marks {
    /// Notes where the log stands. Gives the latest point that this process has seen for this long.
    fn pass(&mut self, mark: Mark, kept: Duration) -> Option<Mark> {
        if (self.0.back()).is_some_and(|last| !last.goes_on_in(mark.position, mark.life)) {
            self.0.clear();
        }
        self.0.push_back(mark);
        let is_old = |seen: &&Mark| mark.at.saturating_sub(seen.at) >= kept;
        let old = self.0.iter().take_while(is_old).count();
        // The one that counts is kept: a pass that deletes nothing, as the clock is not settled, is made up for.
        self.0.drain(..old.saturating_sub(1));
        self.0.front().filter(is_old).copied()
    }
}

impl Mark {
    /// Whether the log that stands here now is the one that was seen, and has lost nothing since.
    fn goes_on_in(&self, now: Position, life: u64) -> bool {
        self.life == life && self.position.epoch == now.epoch && self.position.sequence <= now.sequence
    }
}

const fn position_of(head: &FeedHead) -> Position {
    Position {
        epoch: head.epoch,
        sequence: head.sequence,
    }
}

fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Leaves out the last rows where they are too much for one message. Whether it did.
fn cut(rows: &mut Vec<FeedRow>) -> bool {
    let mut bytes = 0;
    let fits = rows.iter().take_while(|row| {
        bytes += row.event.len();
        bytes <= PAGE_BYTES
    });
    // One at least, or it never ends.
    let kept = fits.count().max(1);
    let is_cut = kept < rows.len();
    rows.truncate(kept);
    is_cut
}

/// The event of a row. One that cannot be read is left out, rather than that nobody hears of anything any more.
fn event(row: &FeedRow) -> Option<AccessEvent> {
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

fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The place that a consumer names, if it is one.
pub(crate) fn position(epoch: &str, sequence: i64) -> Result<Option<Position>, base::ids::ParseIdError> {
    if epoch.is_empty() {
        return Ok(None);
    }
    let epoch: Epoch = epoch.parse()?;
    Ok(Some(Position { epoch, sequence }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_mins(35);

    fn mark(epoch: Epoch, sequence: i64, minutes: u64) -> Mark {
        Mark {
            position: Position { epoch, sequence },
            life: 0,
            at: Duration::from_mins(minutes),
        }
    }

    fn up_to(marks: &mut Marks, mark: Mark) -> Option<i64> {
        marks.pass(mark, KEPT).map(|seen| seen.position.sequence)
    }

    #[test]
    fn an_event_goes_once_this_process_has_seen_it_for_as_long_as_it_is_kept() {
        let (mut marks, epoch) = (Marks::default(), Epoch::generate());
        for (minutes, sequence, gone) in [
            (0, 5, None),
            (10, 7, None),
            (34, 8, None),
            (35, 9, Some(5)),
            (44, 9, Some(5)),
            (45, 9, Some(7)),
            // Long after, when passes in between have failed.
            (200, 9, Some(9)),
        ] {
            assert_eq!(up_to(&mut marks, mark(epoch, sequence, minutes)), gone, "{minutes}");
        }
        assert!(marks.0.len() <= 2, "{marks:?}");
    }

    #[test]
    fn what_was_seen_of_another_history_counts_for_nothing() {
        let epoch = Epoch::generate();
        let later = |mark: Mark| Mark {
            at: mark.at + KEPT,
            ..mark
        };
        for other in [
            mark(Epoch::generate(), 9, 10),
            // It went back, and came as far again or not.
            mark(epoch, 4, 10),
            Mark {
                life: 1,
                ..mark(epoch, 9, 10)
            },
        ] {
            let mut marks = Marks::default();
            assert_eq!(up_to(&mut marks, mark(epoch, 5, 0)), None);
            assert_eq!(up_to(&mut marks, other), None, "{other:?}");
            assert_eq!(up_to(&mut marks, mark_at(other, 36)), None, "{other:?}");
            assert_eq!(
                up_to(&mut marks, later(other)),
                Some(other.position.sequence),
                "{other:?}"
            );
        }
    }

    fn mark_at(mark: Mark, minutes: u64) -> Mark {
        Mark {
            at: Duration::from_mins(minutes),
            ..mark
        }
    }
}
