//! Renames and deletions of users, for a service that keeps names.
//!
//! They come by the same stream as everything else, but a service applies them to a database of its
//! own, which takes longer than a revocation may wait. So they go by a queue beside it. The queue
//! has no bound of its own: the feed holds at most one rename or deletion for each user, and after
//! the position that the service has kept, few.

use base::ids::UserId;
use proto::auth::v1::{WatchResponse, access_event::Event};
use tokio::sync::mpsc;

use crate::view::{Epoch, FeedPosition};

/// What became of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameChange {
    /// They have this login now.
    Renamed(UserId, String),
    /// They are no more.
    Deleted(UserId),
}

/// What changed up to a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameChanges {
    /// To be kept once the changes are.
    pub position: FeedPosition,
    /// The changes by their sequence, in order.
    pub changes: Vec<(i64, NameChange)>,
}

/// Where the changes go.
#[derive(Debug)]
pub struct NameFeed {
    pub(super) after: Option<FeedPosition>,
    sender: mpsc::UnboundedSender<NameChanges>,
}

/// What one stream has said and not passed on yet: of a snapshot, which comes in parts.
#[derive(Debug, Default)]
pub(super) struct Collected(Vec<(i64, NameChange)>);

impl NameFeed {
    /// For a service that knows all changes up to this position. Gives where they come out: each at
    /// least once, in the order of each stream.
    pub fn new(after: Option<FeedPosition>) -> (Self, mpsc::UnboundedReceiver<NameChanges>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { after, sender }, receiver)
    }

    /// Passes on what a message says.
    pub(super) fn pass_on(&self, message: &WatchResponse, collected: &mut Collected) {
        let Ok(epoch) = message.epoch.parse::<Epoch>() else {
            return;
        };
        let changes = message.events.iter().filter_map(|event| {
            let change = match event.event.as_ref()? {
                Event::UserRenamed(renamed) => {
                    NameChange::Renamed(renamed.user_id.parse().ok()?, renamed.login.clone())
                }
                Event::UserDeleted(deleted) => NameChange::Deleted(deleted.user_id.parse().ok()?),
                _ => return None,
            };
            Some((event.sequence, change))
        });
        collected.0.extend(changes);
        if collected.0.is_empty() || (message.is_snapshot && !message.is_caught_up) {
            return;
        }
        // An error means that the service ends.
        let _ = self.sender.send(NameChanges {
            position: FeedPosition {
                epoch,
                sequence: message.sequence,
            },
            changes: std::mem::take(&mut collected.0),
        });
    }
}

#[cfg(test)]
mod tests {
    use proto::auth::v1::{AccessEvent, RoleChanged, UserDeleted, UserRenamed};

    use super::*;

    fn event(sequence: i64, event: Event) -> AccessEvent {
        AccessEvent {
            sequence,
            expire_time: None,
            event: Some(event),
        }
    }

    #[test]
    fn a_snapshot_is_passed_on_once_it_is_whole() {
        let (feed, mut changes) = NameFeed::new(None);
        let (ann, bob, epoch) = (UserId::generate(), UserId::generate(), Epoch::generate());
        let renamed = UserRenamed {
            user_id: ann.to_string(),
            login: "anna".to_owned(),
        };
        let deleted = UserDeleted {
            user_id: bob.to_string(),
        };
        let first = WatchResponse {
            epoch: epoch.to_string(),
            sequence: 9,
            events: vec![
                event(3, Event::UserRenamed(renamed)),
                event(4, Event::RoleChanged(RoleChanged::default())),
            ],
            is_snapshot: true,
            ..WatchResponse::default()
        };
        let last = WatchResponse {
            events: vec![event(9, Event::UserDeleted(deleted))],
            is_caught_up: true,
            ..first.clone()
        };
        let mut collected = Collected::default();
        feed.pass_on(&first, &mut collected);
        assert!(changes.try_recv().is_err());
        feed.pass_on(&last, &mut collected);
        let expected = NameChanges {
            position: FeedPosition { epoch, sequence: 9 },
            changes: vec![
                (3, NameChange::Renamed(ann, "anna".to_owned())),
                (9, NameChange::Deleted(bob)),
            ],
        };
        assert_eq!(changes.try_recv(), Ok(expected));
        // A sign of life is nothing to keep.
        let idle = WatchResponse {
            epoch: epoch.to_string(),
            sequence: 10,
            is_caught_up: true,
            ..WatchResponse::default()
        };
        feed.pass_on(&idle, &mut collected);
        assert!(changes.try_recv().is_err());
    }
}
