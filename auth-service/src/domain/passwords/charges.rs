//! The turns that networks, names and users have had lately, by which the queue decides who is
//! next.

use std::{collections::HashMap, time::Duration};

use base::ids::UserId;
use ipnet::IpNet;
use tokio::time::Instant;

/// How fast turns are forgotten: after this time they count for 1/e.
pub(super) const MEMORY: Duration = Duration::from_secs(10);
/// Weight of a turn for the narrower prefixes of an IPv6 address, beside 1 for the widest: it
/// orders those of one network, and weighs little against others.
const NARROW_SHARE: f64 = 1.0 / 16.0;
/// After this many entries, groups that have had next to nothing lately are dropped.
const FORGET_EVERY: u32 = 1024;
/// Turns below which a group is dropped.
const NEXT_TO_NOTHING: f64 = 0.05;

/// Clients that are charged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Group {
    Network(IpNet),
    /// The hash of a name: names that share one share their turns, which harms nobody.
    Name(u64),
    User(UserId),
}

/// Turns that a group has had lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attained {
    pub(super) turns: f64,
    pub(super) since: Instant,
}

/// The turns of every group that has had some lately.
#[derive(Debug, Default)]
pub(super) struct Charges {
    attained: HashMap<Group, Attained>,
    /// Entries since groups were last dropped.
    entries: u32,
}

impl Charges {
    /// Turns that these groups have taken lately, plus `more`.
    pub(super) fn score(&self, groups: &[Group], now: Instant, more: f64) -> f64 {
        let of = |group: &Group| self.attained.get(group).map_or(0.0, |attained| attained.at(now)) + more;
        weighted(groups).map(|(group, weight)| weight * of(group)).sum()
    }

    /// Charges these groups for so many turns, or gives them back.
    pub(super) fn charge(&mut self, groups: &[Group], now: Instant, turns: f64) {
        for group in groups {
            let entry = self
                .attained
                .entry(*group)
                .or_insert(Attained { turns: 0.0, since: now });
            *entry = Attained {
                turns: (entry.at(now) + turns).max(0.0),
                since: now,
            };
        }
        self.entries += 1;
        if self.entries >= FORGET_EVERY {
            self.entries = 0;
            self.attained.retain(|_, attained| attained.at(now) > NEXT_TO_NOTHING);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.attained.len()
    }
}

impl Attained {
    /// Returns the turns that still count.
    pub(super) fn at(&self, now: Instant) -> f64 {
        self.turns * self.decay(now)
    }

    /// Fraction of a turn from that time that still counts.
    pub(super) fn decay(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.since);
        (-age.div_duration_f64(MEMORY)).exp()
    }
}

/// Groups with what a turn counts for each: 1 for the widest network and for a name or a user.
fn weighted(groups: &[Group]) -> impl Iterator<Item = (&Group, f64)> {
    let mut has_network = false;
    groups.iter().map(move |group| {
        let is_narrow = has_network && matches!(group, Group::Network(_));
        has_network |= matches!(group, Group::Network(_));
        (group, if is_narrow { NARROW_SHARE } else { 1.0 })
    })
}
