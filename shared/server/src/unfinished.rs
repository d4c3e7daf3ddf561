//! Memory budget of calls whose message has not arrived completely.
//!
//! Such a call takes bytes from this budget instead of a place for calls, because a client that
//! sends headers and nothing else must not keep others out. Taking bytes never waits: a call that
//! waits leaves its data in the flow-control window of a connection that others may share. If there
//! are not enough bytes, the call that has stalled longest is refused.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ipnet::IpNet;
use metrics::Gauge;
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Gauge of bytes that unfinished calls hold.
const BYTES: &str = "rpc_server_unfinished_bytes";
/// Counter of unfinished calls that were refused to make room.
const REFUSED: &str = "rpc_server_unfinished_refused_total";

/// Part of the budget that one client address may hold, as a divisor.
const ADDRESS_SHARE: usize = 8;
/// Part of the budget by which it may be exceeded while refused calls have not gone yet, as a
/// divisor.
const LEAVING_SHARE: usize = 16;

/// Budget for unfinished calls. Clones share it.
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
    /// Bytes of the calls that have not been refused.
    used: usize,
    /// Bytes of all calls, including those that were refused and have not gone yet.
    held: usize,
    /// Number of the last moment at which a call made progress.
    moment: u64,
    calls: BTreeMap<u64, UnfinishedCall>,
    addresses: HashMap<IpNet, Address>,
}

/// Unfinished call, stored under the moment of its last progress.
#[derive(Debug)]
struct UnfinishedCall {
    bytes: usize,
    address: Option<IpNet>,
    refused: CancellationToken,
}

#[derive(Debug, Default)]
struct Address {
    used: usize,
    /// See [`State::held`].
    held: usize,
    /// Moments of the last progress of its calls.
    calls: BTreeSet<u64>,
}

/// Claim of one call on the budget. Dropping it frees the bytes.
#[derive(Debug)]
pub(super) struct Claim {
    budget: Arc<Budget>,
    moment: u64,
    address: Option<IpNet>,
    bytes: usize,
    refused: CancellationToken,
}

impl Unfinished {
    pub(super) fn new(total: usize) -> Self {
        metrics::describe_gauge!(
            BYTES,
            metrics::Unit::Bytes,
            "Memory in bytes that is held by calls whose message has not arrived completely."
        );
        metrics::describe_counter!(
            REFUSED,
            "Number of calls that were refused while their message was arriving, to make room for others."
        );
        metrics::counter!(REFUSED).increment(0);
        Self(Arc::new(Budget {
            total,
            state: Mutex::default(),
            bytes: metrics::gauge!(BYTES),
        }))
    }

    /// Takes bytes for a call from this address. Returns `None` if the call must be refused at
    /// once: either it alone needs more than its address may hold, or too many refused calls have
    /// not gone yet.
    pub(super) fn claim(&self, address: Option<IpNet>, bytes: usize) -> Option<Claim> {
        let refused = CancellationToken::new();
        let mut state = self.0.lock();
        let held = UnfinishedCall {
            bytes,
            address,
            refused: refused.clone(),
        };
        let moment = state.insert(held);
        state.holds_more(address, bytes);
        self.0.make_room(&mut state, address);
        if self.0.has_too_many_leaving(&state, address) {
            state.refuse(moment);
        }
        drop(state);
        // If it is refused, dropping the claim frees its bytes.
        let claim = Claim {
            budget: Arc::clone(&self.0),
            moment,
            address,
            bytes,
            refused,
        };
        (!claim.refused.is_cancelled()).then_some(claim)
    }
}

impl Claim {
    /// Records progress of the call, which now takes this many bytes.
    pub(super) fn grow_to(&mut self, bytes: usize) {
        let mut state = self.budget.lock();
        // A call that was refused no longer grows.
        let Some(held) = state.remove(self.moment) else {
            return;
        };
        self.moment = state.insert(UnfinishedCall { bytes, ..held });
        state.holds_more(self.address, bytes);
        state.holds_less(self.address, self.bytes);
        self.bytes = bytes;
        self.budget.make_room(&mut state, self.address);
    }

    /// Returns a token that is cancelled when the call has to make room for others.
    pub(super) fn refused(&self) -> CancellationToken {
        self.refused.clone()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.remove(self.moment);
        state.holds_less(self.address, self.bytes);
        self.budget.report(&state);
    }
}

impl Budget {
    // A panic leaves nothing half written here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Refuses the calls that have stalled longest until the rest fits: first calls of this address
    /// while it exceeds its share, and then any.
    fn make_room(&self, state: &mut State, address: Option<IpNet>) {
        let share = self.total / ADDRESS_SHARE;
        if let Some(address) = address {
            while let Some(moment) = state
                .addresses
                .get(&address)
                .and_then(|held| held.longest_stalled_over(share))
            {
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

    /// Returns whether calls that were refused and have not gone yet hold too much.
    fn has_too_many_leaving(&self, state: &State, address: Option<IpNet>) -> bool {
        let is_over = |held: usize, limit: usize| held > limit + limit / LEAVING_SHARE;
        let of_address = address.and_then(|address| state.addresses.get(&address));
        is_over(state.held, self.total)
            || of_address.is_some_and(|address| is_over(address.held, self.total / ADDRESS_SHARE))
    }

    fn report(&self, state: &State) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        self.bytes.set(state.held as f64);
    }
}

impl Address {
    /// Returns the call that has stalled longest, if the address holds more than `share`.
    fn longest_stalled_over(&self, share: usize) -> Option<u64> {
        self.calls.first().copied().filter(|_| self.used > share)
    }
}

impl State {
    fn insert(&mut self, held: UnfinishedCall) -> u64 {
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

    fn remove(&mut self, moment: u64) -> Option<UnfinishedCall> {
        let held = self.calls.remove(&moment)?;
        self.used -= held.bytes;
        if let Some(key) = held.address
            && let Some(address) = self.addresses.get_mut(&key)
        {
            address.used -= held.bytes;
            address.calls.remove(&moment);
        }
        Some(held)
    }

    fn holds_more(&mut self, address: Option<IpNet>, bytes: usize) {
        self.held += bytes;
        if let Some(address) = address {
            self.addresses.entry(address).or_default().held += bytes;
        }
    }

    fn holds_less(&mut self, address: Option<IpNet>, bytes: usize) {
        self.held -= bytes;
        if let Some(key) = address
            && let Some(address) = self.addresses.get_mut(&key)
        {
            address.held -= bytes;
            if address.held == 0 {
                self.addresses.remove(&key);
            }
        }
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

    fn claim(budget: &Unfinished, address: &str, bytes: usize) -> Option<Claim> {
        budget.claim(Some(address.parse().expect("a network")), bytes)
    }

    fn used(budget: &Unfinished) -> (usize, usize) {
        let state = budget.0.lock();
        (state.used / KIB, state.held / KIB)
    }

    #[test]
    fn the_longest_stalled_call_is_refused_to_make_room() {
        let budget = Unfinished::new(160 * KIB);
        let mut claims: Vec<_> = (0..8)
            .map(|number| claim(&budget, &format!("192.0.2.{number}/32"), 20 * KIB).expect("room"))
            .collect();
        assert_eq!(used(&budget), (160, 160));
        // The first call has made progress since, so the second has stalled longest.
        claims[0].grow_to(20 * KIB);
        let last = claim(&budget, "192.0.2.9/32", 10 * KIB).expect("room");
        let refused: Vec<_> = claims.iter().map(|claim| claim.refused.is_cancelled()).collect();
        assert_eq!(refused, [false, true, false, false, false, false, false, false]);
        // The second call has not gone yet, but its progress changes nothing any more.
        assert_eq!(used(&budget), (150, 170));
        claims[1].grow_to(70 * KIB);
        assert_eq!(used(&budget), (150, 170));
        drop((claims, last));
        assert_eq!(used(&budget), (0, 0));
        assert!(budget.0.lock().addresses.is_empty());
    }

    #[test]
    fn new_calls_are_refused_while_too_many_are_still_leaving() {
        let budget = Unfinished::new(160 * KIB);
        let claims: Vec<_> = (0..20)
            .map(|number| claim(&budget, &format!("192.0.2.{number}/32"), 10 * KIB))
            .collect();
        // The budget has room for sixteen calls, and may be exceeded by a sixteenth.
        assert_eq!(claims.iter().flatten().count(), 17);
        assert_eq!(used(&budget).1, 170);
        drop(claims);
        assert!(claim(&budget, "192.0.2.1/32", 10 * KIB).is_some());
    }

    #[test]
    fn an_address_holds_at_most_an_eighth_of_the_budget() {
        let budget = Unfinished::new(160 * KIB);
        let one = "192.0.2.1/32";
        let first = claim(&budget, one, 12 * KIB).expect("room");
        let second = claim(&budget, one, 9 * KIB).expect("room");
        assert!(first.refused.is_cancelled() && !second.refused.is_cancelled());
        let other = claim(&budget, "192.0.2.2/32", 20 * KIB).expect("room");
        assert!(!other.refused.is_cancelled());
        // A single call may not hold more either.
        assert!(claim(&budget, "192.0.2.3/32", 21 * KIB).is_none());
        // A call from within the process has no address.
        let inside = budget.claim(None, 60 * KIB).expect("room");
        assert!(!inside.refused.is_cancelled() && !second.refused.is_cancelled());
    }
}
