//! Reads the access feed: first everything that is known, then every change.
//!
//! The log is compacted (one row a subject, the latest), so everything that is known is the log
//! from its beginning.

use std::time::Duration;

use access::view::{AccessView, Epoch, FeedPosition};
use proto::auth::v1::{AccessEvent, WatchResponse};
use tokio::sync::watch;

use crate::{
    domain::feed::{
        revocation_life,
        tail::{FeedTail, Tail, event, limit},
    },
    model::FeedKind,
    store::{self, FeedRow},
};

/// Before a reading that has ended begins anew.
const PAUSE: Duration = Duration::from_millis(200);
/// Events of one message.
const PAGE: usize = 500;
/// Bytes of the events of one message, but for a single one that is longer. Followers take 16 MiB.
const PAGE_BYTES: usize = 1024 * 1024;

/// One consumer's reading of the feed.
#[derive(Debug)]
pub(crate) struct FeedStream {
    tail: FeedTail,
    changes: watch::Receiver<Tail>,
    /// Renames and deletions up to here are known to the consumer.
    known_names: Option<FeedPosition>,
    stage: Stage,
    /// The life of the log in which the reading began.
    life: u64,
}

#[derive(Debug)]
enum Stage {
    /// Everything up to here was sent.
    Snapshot(Option<FeedPosition>),
    Live(FeedPosition),
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
    /// A reading for a consumer that stands here.
    pub(crate) fn stream(&self, known: Option<FeedPosition>) -> FeedStream {
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
}

impl FeedStream {
    /// The next message. Returns within about a second.
    pub(crate) async fn next(&mut self) -> Result<WatchResponse, FeedEnded> {
        match self.stage {
            Stage::Snapshot(sent) => self.snapshot(sent).await,
            Stage::Live(sent) => self.live(sent).await,
        }
    }

    async fn snapshot(&mut self, sent: Option<FeedPosition>) -> Result<WatchResponse, FeedEnded> {
        let mut conn = self.tail.db.scan().await?;
        let head = store::feed_head(&mut conn).await?.ok_or(db::Error::NotFound)?;
        let sent = match sent {
            None => FeedPosition {
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
        let at = FeedPosition {
            epoch: head.epoch,
            sequence: at,
        };
        let now = self.tail.clock.now();
        // A cursor past the end is of another life of the database.
        let known_names = self
            .known_names
            .filter(|known| known.epoch == at.epoch && known.sequence <= head.sequence);
        // Whatever the clock says of an event, it is sent as long as it is there: the purge knows
        // when it is over.
        let is_news = |row: &FeedRow| {
            !(row.is(FeedKind::UserChanged) && known_names.is_some_and(|known| row.sequence <= known.sequence))
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

    async fn live(&mut self, sent: FeedPosition) -> Result<WatchResponse, FeedEnded> {
        // The task that sends lives as long as the process; should it end, there is nothing more to
        // say.
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

/// The place that a consumer names, if it is one.
pub(crate) fn position(epoch: &str, sequence: i64) -> Result<Option<FeedPosition>, base::ids::ParseIdError> {
    if epoch.is_empty() {
        return Ok(None);
    }
    let epoch: Epoch = epoch.parse()?;
    Ok(Some(FeedPosition { epoch, sequence }))
}
