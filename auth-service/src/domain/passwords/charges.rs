//! Recent turns of networks, names and users, by which the queue decides which client is next.

use std::{collections::HashMap, time::Duration};

use base::ids::UserId;
use ipnet::IpNet;
use tokio::time::Instant;

/// Time constant with which turns are forgotten: after this time, a turn counts for 1/e.
pub(super) const MEMORY: Duration = Duration::from_secs(10);
/// Weight of a turn for the narrower prefixes of an IPv6 address. For the widest prefix it is 1.
/// The narrower ones order the clients of one network, and weigh little against other networks.
const NARROW_SHARE: f64 = 1.0 / 16.0;
/// Number of charges after which groups with almost no recent turns are dropped.
const FORGET_EVERY: u32 = 1024;
/// Number of recent turns below which a group is dropped.
const NEXT_TO_NOTHING: f64 = 0.05;

/// Clients that are charged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Group {
    Network(IpNet),
    /// Hash of a name. Names with the same hash share their turns, which does no harm.
    Name(u64),
    User(UserId),
}

/// Recent turns of a group, as of the time `since`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attained {
    pub(super) turns: f64,
    pub(super) since: Instant,
}

/// Recent turns of all groups that have had any.
#[derive(Debug, Default)]
pub(super) struct Charges {
    attained: HashMap<Group, Attained>,
    /// Number of charges since groups were last dropped.
    entries: u32,
}

impl Charges {
    /// Returns the weighted sum of the recent turns of these groups, with `more` added to each.
    pub(super) fn score(&self, groups: &[Group], now: Instant, more: f64) -> f64 {
        let of = |group: &Group| self.attained.get(group).map_or(0.0, |attained| attained.at(now)) + more;
        weighted(groups).map(|(group, weight)| weight * of(group)).sum()
    }

    /// Charges these groups for this many turns. A negative number gives turns back.
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
    /// Returns the turns that still count at this time.
    pub(super) fn at(&self, now: Instant) -> f64 {
        self.turns * self.decay(now)
    }

    /// Returns the fraction of each turn that still counts at this time.
    pub(super) fn decay(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.since);
        (-age.div_duration_f64(MEMORY)).exp()
    }
}

/// Pairs each group with the weight of a turn: 1 for the widest network and for a name or a user,
/// and [`NARROW_SHARE`] for narrower networks.
fn weighted(groups: &[Group]) -> impl Iterator<Item = (&Group, f64)> {
    let mut has_network = false;
    groups.iter().map(move |group| {
        let is_narrow = has_network && matches!(group, Group::Network(_));
        has_network |= matches!(group, Group::Network(_));
        (group, if is_narrow { NARROW_SHARE } else { 1.0 })
    })
}
