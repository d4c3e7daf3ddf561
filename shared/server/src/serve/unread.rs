//! Limit on the memory of responses that their clients do not read.
//!
//! If a client does not open its flow-control windows, the server must keep the rest of each
//! response, and the HTTP/2 state of the stream, until the response is dropped. A response for
//! which this budget has no room is dropped at once.

use std::{collections::HashMap, sync::Arc};

use ipnet::IpNet;
use parking_lot::{Mutex, MutexGuard};

/// Budget for all unread responses of a port, in bytes.
const TOTAL: usize = 64 * 1024 * 1024;
/// Share of one client network, in bytes. A trusted proxy may use the whole budget, because it may
/// serve many clients.
const CLIENT_BUDGET: usize = TOTAL / 4;
/// Memory that a stream and its task need besides the rest of the response, in bytes (measured: 8
/// KiB).
const STREAM_OVERHEAD: usize = 10 * 1024;

/// Budget of a port. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct UnreadBudget(Arc<Mutex<Usage>>);

#[derive(Debug, Default)]
struct Usage {
    total: usize,
    by_client: HashMap<IpNet, usize>,
}

/// Budget from the point of view of one connection.
#[derive(Clone, Debug)]
pub(super) struct ClientUnreadBudget {
    unread: UnreadBudget,
    client: Option<IpNet>,
}

/// Memory for a response, which is reserved until this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    of: ClientUnreadBudget,
    bytes: usize,
}

impl UnreadBudget {
    /// Returns the budget for a connection of this client. `client` is `None` for a trusted proxy
    /// and for a connection from within the process.
    pub(super) fn of(&self, client: Option<IpNet>) -> ClientUnreadBudget {
        ClientUnreadBudget {
            unread: self.clone(),
            client,
        }
    }

    /// Returns the bytes that all responses hold.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.held().total
    }

    fn held(&self) -> MutexGuard<'_, Usage> {
        // A panic leaves nothing half written here.
        self.0.lock()
    }
}

impl ClientUnreadBudget {
    /// Reserves room for a response with this many bytes left, or returns `None` if there is no
    /// room.
    pub(super) fn take(&self, rest: usize) -> Option<Reservation> {
        let mut reservation = Reservation {
            of: self.clone(),
            bytes: 0,
        };
        reservation.try_resize(rest).then_some(reservation)
    }
}

impl Reservation {
    /// Reserves room for a response with this many bytes left, instead of what was reserved before.
    /// Returns false, and changes nothing, if there is no room for more.
    pub(super) fn try_resize(&mut self, rest: usize) -> bool {
        let bytes = STREAM_OVERHEAD + rest;
        if bytes == self.bytes {
            return true;
        }
        let mut held = self.of.unread.held();
        let total = held.total - self.bytes + bytes;
        let of_client = self.of.client.map(|client| {
            let before = held.by_client.get(&client).copied().unwrap_or_default();
            (client, before - self.bytes + bytes)
        });
        let is_too_much = total > TOTAL || of_client.is_some_and(|(_, of_client)| of_client > CLIENT_BUDGET);
        if bytes > self.bytes && is_too_much {
            return false;
        }
        held.total = total;
        if let Some((client, of_client)) = of_client {
            held.by_client.insert(client, of_client);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut held = self.of.unread.held();
        held.total -= self.bytes;
        if let Some(client) = self.of.client
            && let Some(of_client) = held.by_client.get_mut(&client)
        {
            *of_client -= self.bytes;
            if *of_client == 0 {
                held.by_client.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_bytes_are_limited_per_client_and_freed_when_read() {
        let unread = UnreadBudget::default();
        let client = |address: &str| unread.of(Some(address.parse().expect("a network")));
        let fill = |of: &ClientUnreadBudget| std::iter::from_fn(|| of.take(90 * 1024)).collect::<Vec<_>>();
        let (ann, bob) = (client("192.0.2.1/32"), client("192.0.2.2/32"));
        let anns = fill(&ann);
        assert!((160..=165).contains(&anns.len()), "{}", anns.len());
        let bobs = fill(&bob);
        assert_eq!(bobs.len(), anns.len());
        // A proxy may use what is left.
        let others = fill(&unread.of(None));
        assert!(others.len() > anns.len());
        assert!(
            client("192.0.2.3/32").take(90 * 1024).is_none(),
            "nothing is left in all"
        );
        drop(anns);
        let mut room = ann.take(0).expect("room");
        // The rest of a response may grow and shrink.
        assert!(!room.try_resize(TOTAL));
        assert!(room.try_resize(1024) && room.bytes == STREAM_OVERHEAD + 1024);
        assert!(room.try_resize(0) && room.bytes == STREAM_OVERHEAD);
        drop(room);
        assert!(ann.take(0).is_some() && bob.take(90 * 1024).is_none());
        drop((bobs, others));
        let held = unread.held();
        assert_eq!((held.total, held.by_client.len()), (0, 0));
    }
}
