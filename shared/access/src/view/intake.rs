//! Application of the messages of one stream to the view.
//!
//! A snapshot is collected first, and then replaces the known roles and keys all at once. Known
//! revocations stay in force, and a withdrawn key stays withdrawn, even if the snapshot lacks them:
//! the database behind it may have lost them.
//!
//! Two streams may run at the same time, because a consumer opens the next one before it leaves the
//! last. A late message of one stream therefore does not undo changes that the other has already
//! brought.

use std::sync::Arc;

use base::clock::{ALLOWANCE, Timestamp};
use proto::auth::v1::WatchResponse;

use super::{
    error::FeedError,
    feed_state::{Effect, FeedState, Retention},
    position::{Epoch, FeedPosition},
    shared::Shared,
};
use crate::token::Jwks;

/// Intake that applies the messages of one stream to an [`AccessView`](super::AccessView).
pub struct AccessIntake {
    shared: Arc<Shared>,
    /// Position of the view before the stream was requested.
    from: Option<FeedPosition>,
    stage: Stage,
}

enum Stage {
    Begun,
    /// Collects a snapshot, and further changes while the view is ahead of it because of another
    /// stream.
    Collecting(Box<Collected>),
    Live,
}

#[derive(Default)]
struct Collected {
    known: FeedState,
    keys: Option<Jwks>,
    /// Time at which the last part was sent, by the server's clock.
    server_time: Option<Timestamp>,
    is_complete: bool,
}

impl AccessIntake {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let from = shared.read().known.position;
        Self {
            shared,
            from,
            stage: Stage::Begun,
        }
    }

    /// Applies the next message. Returns whether the view has caught up with the stream. From then
    /// on, the consumer needs no other stream.
    ///
    /// # Errors
    ///
    /// Fails if the message contradicts the protocol. The view stays at the last event that was
    /// valid.
    pub fn apply(&mut self, message: WatchResponse) -> Result<bool, FeedError> {
        let epoch: Epoch = message.epoch.parse().map_err(|_| FeedError::BadEpoch)?;
        let server_time = message.server_time.map(Timestamp::from);
        let retention = Retention::new(self.shared.clock.monotonic(), message.revocation_seconds, server_time);
        let mut collected = match std::mem::replace(&mut self.stage, Stage::Begun) {
            Stage::Begun if message.is_snapshot => Box::default(),
            Stage::Collecting(collected) if message.is_snapshot != collected.is_complete => collected,
            Stage::Live if !message.is_snapshot => {
                self.follow(epoch, message, &retention)?;
                self.stage = Stage::Live;
                return Ok(true);
            }
            Stage::Begun | Stage::Collecting(_) | Stage::Live => return Err(FeedError::OutOfOrder),
        };
        collected.server_time = server_time;
        collected.add(epoch, message, &retention)?;
        let is_swapped = collected.is_complete && self.swap(&mut collected);
        self.stage = if is_swapped {
            Stage::Live
        } else {
            Stage::Collecting(collected)
        };
        Ok(is_swapped)
    }

    /// Replaces the roles and keys of the view, and keeps its revocations. Returns `false` without
    /// a change if another stream has brought the view further since this one began.
    fn swap(&self, collected: &mut Collected) -> bool {
        let went_back;
        {
            let mut state = self.shared.write();
            // A database that was restored without a new epoch ends before the position at which
            // the view already was when this stream began.
            let was_put_back = self.from.is_some_and(|from| {
                collected
                    .known
                    .position
                    .is_some_and(|at| at.epoch == from.epoch && at.sequence < from.sequence)
            });
            if collected.known.is_behind(&state.known) && !was_put_back {
                return false;
            }
            if let Some(keys) = collected.keys.take() {
                self.shared.replace_keys_of(&mut state.withdrawn, keys);
            }
            let before = std::mem::replace(&mut state.known, std::mem::take(&mut collected.known));
            let own = self.shared.clock.now();
            let taken = collected.server_time.unwrap_or(own).max(own);
            went_back = before
                .position
                .is_some_and(|position| !state.known.continues_from(position));
            state.known.carry_over_revocations(before, taken.plus(ALLOWANCE));
            state.known.forget_before(self.shared.clock.monotonic());
            state.last_heard = tokio::time::Instant::now();
        }
        if went_back {
            self.shared.record_went_back();
        }
        self.shared.set_loaded();
        self.shared.set_revoked();
        self.shared.set_moved();
        true
    }

    fn follow(&self, epoch: Epoch, message: WatchResponse, retention: &Retention) -> Result<(), FeedError> {
        let mut has_revoked = false;
        let result = {
            let mut state = self.shared.write();
            let state = &mut *state;
            let follow = || {
                let known = &mut state.known;
                let position = known.position.filter(|position| position.epoch == epoch);
                let mut position = position.ok_or(FeedError::Discontinuous)?;
                for event in message.events {
                    let sequence = event.sequence;
                    if sequence <= position.sequence {
                        continue;
                    }
                    let effect = known.apply(event, retention)?;
                    position.sequence = sequence;
                    known.position = Some(position);
                    has_revoked |= effect != Effect::None;
                    if let Effect::Keys(keys) = effect {
                        self.shared.replace_keys_of(&mut state.withdrawn, keys);
                    }
                }
                if message.sequence < position.sequence {
                    return Err(FeedError::Discontinuous);
                }
                position.sequence = message.sequence;
                known.position = Some(position);
                known.forget_before(self.shared.clock.monotonic());
                Ok(())
            };
            let result = follow();
            if result.is_ok() {
                state.last_heard = tokio::time::Instant::now();
            }
            result
        };
        if has_revoked {
            self.shared.set_revoked();
        }
        self.shared.set_moved();
        result
    }
}

impl Collected {
    fn add(&mut self, epoch: Epoch, message: WatchResponse, retention: &Retention) -> Result<(), FeedError> {
        if self.known.position.is_some_and(|position| position.epoch != epoch) {
            return Err(FeedError::Discontinuous);
        }
        for event in message.events {
            if let Effect::Keys(keys) = self.known.apply(event, retention)? {
                self.keys = Some(keys);
            }
        }
        self.known.position = Some(FeedPosition {
            epoch,
            sequence: message.sequence,
        });
        self.is_complete |= message.is_caught_up;
        Ok(())
    }
}
