//! Renames and deletions of users, for a service that stores names.
//!
//! They arrive on the same stream as everything else. A service applies them to its own database,
//! which takes longer than a revocation may wait, so they pass through a separate queue. The queue
//! needs no bound: the feed holds at most one rename or deletion for each user, and few of them
//! come after the position that the service has stored.

use base::ids::UserId;
use proto::auth::v1::{WatchResponse, access_event::Event};
use tokio::sync::mpsc;

use crate::view::{Epoch, FeedPosition};

/// Rename or deletion of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameChange {
    /// The user now has this login.
    Renamed(UserId, String),
    /// The user was deleted.
    Deleted(UserId),
}

/// Renames and deletions up to a position of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameChanges {
    /// Position to store once the changes have been stored.
    pub position: FeedPosition,
    /// Changes with their sequence numbers, in ascending order.
    pub changes: Vec<(i64, NameChange)>,
}

/// Sending side of the queue of renames and deletions.
#[derive(Debug)]
pub struct NameFeed {
    pub(super) after: Option<FeedPosition>,
    sender: mpsc::UnboundedSender<NameChanges>,
}

/// Changes of one stream that have not been passed on yet. A snapshot arrives in parts, and is
/// passed on as a whole.
#[derive(Debug, Default)]
pub(super) struct Collected(Vec<(i64, NameChange)>);

impl NameFeed {
    /// Creates a queue for a service that knows all changes up to this position. The receiver gets
    /// each later change at least once, in the order of each stream.
    pub fn new(after: Option<FeedPosition>) -> (Self, mpsc::UnboundedReceiver<NameChanges>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { after, sender }, receiver)
    }

    /// Passes on the renames and deletions in a message.
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
        // An error means that the service is shutting down.
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
    fn names_of_a_snapshot_are_passed_on_once_it_is_complete() {
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
        // A message without events has no change to store.
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
