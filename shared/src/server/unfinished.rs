//! The memory of calls whose message has not arrived completely.
//!
//! Such a call takes bytes from a budget and not one of the places for calls: a client that sends
//! headers and nothing after them must not keep others out. Taking bytes never waits, since a call
//! that waits leaves its data in the flow-control window of a connection that others may share. If
//! there are not enough, the call that has stalled longest makes room.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use metrics::Gauge;
use tokio_util::sync::CancellationToken;

/// Bytes that unfinished calls hold.
const BYTES: &str = "rpc_server_unfinished_bytes";
/// Unfinished calls that had to make room.
const REFUSED: &str = "rpc_server_unfinished_refused_total";

/// The part of the budget that one client address may hold.
const ADDRESS_SHARE: usize = 8;

/// The budget.
#[derive(Clone, Debug)]
pub(super) struct Unfinished(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    total: usize,
    state: Mutex<State>,
    bytes: Gauge,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    /// Numbers the moments at which calls made progress.
    moment: u64,
    calls: BTreeMap<u64, Held>,
    addresses: HashMap<IpNet, Address>,
}

/// What a call holds, filed under the moment of its last progress.
#[derive(Debug)]
struct Held {
    bytes: usize,
    address: Option<IpNet>,
    refused: CancellationToken,
}

#[derive(Debug, Default)]
struct Address {
    used: usize,
    /// The moments of its calls.
    calls: BTreeSet<u64>,
}

/// The bytes of one call. They are free again when this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    budget: Arc<Budget>,
    moment: u64,
    refused: CancellationToken,
}

impl Unfinished {
    pub(super) fn new(total: usize) -> Self {
        metrics::describe_gauge!(
            BYTES,
            metrics::Unit::Bytes,
            "Bytes held by calls whose message has not arrived completely."
        );
        metrics::describe_counter!(
            REFUSED,
            "Calls refused while their message was arriving, to make room for others."
        );
        metrics::counter!(REFUSED).increment(0);
        Self(Arc::new(Budget {
            total,
            state: Mutex::default(),
            bytes: metrics::gauge!(BYTES),
        }))
    }

    /// Takes bytes for a call from this address. It may be refused at once, like any other.
    pub(super) fn claim(&self, address: Option<IpNet>, bytes: usize) -> Claim {
        let refused = CancellationToken::new();
        let mut state = self.0.lock();
        let held = Held {
            bytes,
            address,
            refused: refused.clone(),
        };
        let moment = state.insert(held);
        self.0.make_room(&mut state, address);
        drop(state);
        Claim {
            budget: Arc::clone(&self.0),
            moment,
            refused,
        }
    }
}

impl Claim {
    /// Notes progress of the call, which now takes this many bytes.
    pub(super) fn grow_to(&mut self, bytes: usize) {
        let mut state = self.budget.lock();
        // A call that was refused holds nothing any more.
        let Some(held) = state.remove(self.moment) else {
            return;
        };
        let address = held.address;
        self.moment = state.insert(Held { bytes, ..held });
        self.budget.make_room(&mut state, address);
    }

    /// Cancelled when the call has to make room for others.
    pub(super) fn refused(&self) -> CancellationToken {
        self.refused.clone()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.remove(self.moment);
        self.budget.report(&state);
    }
}

impl Budget {
    // A panic leaves nothing half written in here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses the calls that have stalled longest until the rest fits: first those of this address,
    /// which may hold no more than its share, then any.
    fn make_room(&self, state: &mut State, address: Option<IpNet>) {
        let share = self.total / ADDRESS_SHARE;
        if let Some(address) = address {
            while let Some(moment) = state.addresses.get(&address).and_then(|held| held.over(share)) {
                state.refuse(moment);
            }
        }
        while state.used > self.total {
            let Some((&moment, _)) = state.calls.first_key_value() else {
                break;
            };
            state.refuse(moment);
        }
        self.report(state);
    }

    fn report(&self, state: &State) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        self.bytes.set(state.used as f64);
    }
}

impl Address {
    /// The call that has stalled longest, if the address holds more than this.
    fn over(&self, share: usize) -> Option<u64> {
        self.calls.first().copied().filter(|_| self.used > share)
    }
}

impl State {
    fn insert(&mut self, held: Held) -> u64 {
        self.moment += 1;
        self.used += held.bytes;
        if let Some(address) = held.address {
            let address = self.addresses.entry(address).or_default();
            address.used += held.bytes;
            address.calls.insert(self.moment);
        }
        self.calls.insert(self.moment, held);
        self.moment
    }

    fn remove(&mut self, moment: u64) -> Option<Held> {
        let held = self.calls.remove(&moment)?;
        self.used -= held.bytes;
        if let Some(key) = held.address
            && let Some(address) = self.addresses.get_mut(&key)
        {
            address.used -= held.bytes;
            address.calls.remove(&moment);
            if address.calls.is_empty() {
                self.addresses.remove(&key);
            }
        }
        Some(held)
    }

    fn refuse(&mut self, moment: u64) {
        if let Some(held) = self.remove(moment) {
            metrics::counter!(REFUSED).increment(1);
            held.refused.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn claim(budget: &Unfinished, address: &str, bytes: usize) -> Claim {
        budget.claim(Some(address.parse().expect("a network")), bytes)
    }

    fn used(budget: &Unfinished) -> usize {
        budget.0.lock().used
    }

    #[test]
    fn the_call_that_has_stalled_longest_makes_room() {
        let budget = Unfinished::new(80 * KIB);
        let mut claims: Vec<_> = (0..8)
            .map(|number| claim(&budget, &format!("192.0.2.{number}/32"), 10 * KIB))
            .collect();
        assert_eq!(used(&budget), 80 * KIB);
        // The first has made progress since, so the second is the one that has stalled longest.
        claims[0].grow_to(10 * KIB);
        let last = claim(&budget, "192.0.2.9/32", 10 * KIB);
        let refused: Vec<_> = claims.iter().map(|claim| claim.refused.is_cancelled()).collect();
        assert_eq!(refused, [false, true, false, false, false, false, false, false]);
        assert_eq!(used(&budget), 80 * KIB);
        // What is refused changes nothing any more.
        claims[1].grow_to(70 * KIB);
        assert_eq!(used(&budget), 80 * KIB);
        drop((claims, last));
        assert_eq!(used(&budget), 0);
        assert!(budget.0.lock().addresses.is_empty());
    }

    #[test]
    fn an_address_holds_no_more_than_an_eighth() {
        let budget = Unfinished::new(80 * KIB);
        let one = "192.0.2.1/32";
        let (first, second) = (claim(&budget, one, 6 * KIB), claim(&budget, one, 5 * KIB));
        assert!(first.refused.is_cancelled() && !second.refused.is_cancelled());
        let other = claim(&budget, "192.0.2.2/32", 10 * KIB);
        assert!(!other.refused.is_cancelled());
        // One call alone may not either.
        let large = claim(&budget, "192.0.2.3/32", 11 * KIB);
        assert!(large.refused.is_cancelled());
        // The process itself has no address.
        let inside = budget.claim(None, 60 * KIB);
        assert!(!inside.refused.is_cancelled() && !second.refused.is_cancelled());
    }
}
