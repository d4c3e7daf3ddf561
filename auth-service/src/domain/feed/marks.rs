//! Limits on purging the feed: an event is deleted only once this process has seen it for long
//! enough.

use std::{collections::VecDeque, time::Duration};

use access::view::FeedPosition;

/// Ends of the log at recent passes of the purge, oldest first, with their monotonic times. They
/// keep a wrong wall clock from deleting anything: an event is deleted only once this process
/// itself has seen it for as long as it must be kept.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<Mark>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) position: FeedPosition,
    /// Value of `Tail::generations` at that time.
    pub(super) generation: u64,
    pub(super) at: Duration,
}

impl Marks {
    /// Records the present end of the log. Returns the latest mark that is at least `kept` old.
    pub(super) fn pass(&mut self, mark: Mark, kept: Duration) -> Option<Mark> {
        if (self.0.back()).is_some_and(|last| !last.goes_on_in(mark.position, mark.generation)) {
            self.0.clear();
        }
        self.0.push_back(mark);
        let is_old = |seen: &&Mark| mark.at.saturating_sub(seen.at) >= kept;
        let old = self.0.iter().take_while(is_old).count();
        // The returned mark is kept. If this pass deletes nothing because the clock is not settled,
        // the next one makes up for it.
        self.0.drain(..old.saturating_sub(1));
        self.0.front().filter(is_old).copied()
    }
}

impl Mark {
    /// Returns whether the log that ends at `now` continues the one that was seen, and has lost
    /// nothing since.
    pub(super) fn goes_on_in(&self, now: FeedPosition, generation: u64) -> bool {
        self.generation == generation && self.position.epoch == now.epoch && self.position.sequence <= now.sequence
    }
}

#[cfg(test)]
mod tests {
    use access::view::Epoch;

    use super::*;

    const KEPT: Duration = Duration::from_mins(35);

    fn mark(epoch: Epoch, sequence: i64, minutes: u64) -> Mark {
        Mark {
            position: FeedPosition { epoch, sequence },
            generation: 0,
            at: Duration::from_mins(minutes),
        }
    }

    fn up_to(marks: &mut Marks, mark: Mark) -> Option<i64> {
        marks.pass(mark, KEPT).map(|seen| seen.position.sequence)
    }

    #[test]
    fn events_are_purged_only_after_this_process_has_known_them_for_the_retention_time() {
        let (mut marks, epoch) = (Marks::default(), Epoch::generate());
        for (minutes, sequence, gone) in [
            (0, 5, None),
            (10, 7, None),
            (34, 8, None),
            (35, 9, Some(5)),
            (44, 9, Some(5)),
            (45, 9, Some(7)),
            // Much later, after passes in between have failed.
            (200, 9, Some(9)),
        ] {
            assert_eq!(up_to(&mut marks, mark(epoch, sequence, minutes)), gone, "{minutes}");
        }
        assert!(marks.0.len() <= 2, "{marks:?}");
    }

    #[test]
    fn marks_of_another_history_are_discarded() {
        let epoch = Epoch::generate();
        let later = |mark: Mark| Mark {
            at: mark.at + KEPT,
            ..mark
        };
        for other in [
            mark(Epoch::generate(), 9, 10),
            // The log went back.
            mark(epoch, 4, 10),
            Mark {
                generation: 1,
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
