//! Streams of the access feed: first a snapshot, then every change.
//!
//! The log is compacted: only the latest event of each kind and subject is kept. So the snapshot is
//! the log from its beginning.

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

/// Pause before this process reads the feed again after its stream has ended.
const PAUSE: Duration = Duration::from_millis(200);
/// Maximum number of events in one message.
const PAGE: usize = 500;
/// Maximum size of the events in one message, in bytes, except for a single event that is larger.
/// Followers accept messages of 16 MiB.
const PAGE_BYTES: usize = 1024 * 1024;

/// A stream of the feed for one follower.
#[derive(Debug)]
pub(crate) struct FeedStream {
    tail: FeedTail,
    changes: watch::Receiver<Tail>,
    /// Position up to which the follower knows the renames and deletions of users.
    known_names: Option<FeedPosition>,
    stage: Stage,
    /// Value of `Tail::generations` when the stream began.
    generation: u64,
}

#[derive(Debug)]
enum Stage {
    /// The snapshot is being sent, and is complete up to this position; `None` at its beginning.
    Snapshot(Option<FeedPosition>),
    /// Changes are being sent, and are complete up to this position.
    Live(FeedPosition),
}

/// Reason why a stream ends. The follower then starts a new one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedEnded {
    /// The database cannot be read.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// The feed has a new epoch, or has lost its last events.
    #[error("the access feed has a new epoch")]
    NewEpoch,
}

impl FeedTail {
    /// Starts a stream for a follower that knows the feed up to this position.
    pub(crate) fn stream(&self, known: Option<FeedPosition>) -> FeedStream {
        let changes = self.state.subscribe();
        let generation = changes.borrow().generations;
        FeedStream {
            changes,
            tail: self.clone(),
            known_names: known,
            stage: Stage::Snapshot(None),
            generation,
        }
    }

    /// Keeps this process's own view up to date, forever. Meanwhile, the acknowledgement of each
    /// change waits for the view.
    pub(crate) async fn fill(self, view: AccessView) {
        let _guard = self.settle_commits(&view);
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
    /// Waits for the next message. While the database answers, there is one about every second.
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
            // The numbers in between belonged to events that later ones have replaced.
            at = at.max(head.sequence);
        }
        let at = FeedPosition {
            epoch: head.epoch,
            sequence: at,
        };
        let now = self.tail.clock.now();
        // A cursor past the end belongs to another history of the database.
        let known_names = self
            .known_names
            .filter(|known| known.epoch == at.epoch && known.sequence <= head.sequence);
        // An event is sent as long as it is stored, even if it has expired by this clock. Only the
        // purge removes events.
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
        // The sending task lives as long as the process. If it ends, there is nothing more to send.
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let tail = self.changes.borrow_and_update().clone();
        let Some(head) = tail.head else {
            return Err(db::Error::Unavailable("the access feed cannot be read".to_owned()).into());
        };
        if tail.generations != self.generation || head.position.epoch != sent.epoch {
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
                // The following events are already stored, so the next call does not wait.
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

/// Drops the last rows if they are too large for one message. Returns whether any were dropped.
fn cut(rows: &mut Vec<FeedRow>) -> bool {
    let mut bytes = 0;
    let fits = rows.iter().take_while(|row| {
        bytes += row.event.len();
        bytes <= PAGE_BYTES
    });
    // At least one row is sent, so that the stream makes progress.
    let kept = fits.count().max(1);
    let is_cut = kept < rows.len();
    rows.truncate(kept);
    is_cut
}

/// Parses the position that a follower sends. Without an epoch there is none.
pub(crate) fn position(epoch: &str, sequence: i64) -> Result<Option<FeedPosition>, base::ids::ParseIdError> {
    if epoch.is_empty() {
        return Ok(None);
    }
    let epoch: Epoch = epoch.parse()?;
    Ok(Some(FeedPosition { epoch, sequence }))
}
