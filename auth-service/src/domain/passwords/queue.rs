//! The queue in front of the threads that hash. It decides which client is next, and which client
//! is turned away when it is full.
//!
//! Turns are shared by network and by account. Each network and account is charged for its turns,
//! and the charges are forgotten within seconds. The next turn goes to the client whose groups have
//! had the fewest. When the queue is full, a client that has had fewer turns takes the place of the
//! one that has had the most. So a flood waits behind everybody else, whether it comes from many
//! addresses of one network or targets one account.
//!
//! Users who are recognized, by an access token or by the token of one of their devices, have
//! places and turns of their own: a share of the queue that no other client can take, and every
//! other turn while both kinds wait.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use base::{ids::UserId, rate};
use ipnet::IpNet;
use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::oneshot, time::Instant};

use super::charges::{Attained, Charges, Group};

/// Divisor for the share of the places that recognized clients have to themselves: a quarter.
const RECOGNIZED_SHARE: usize = 4;
/// The client for which a password is hashed.
#[derive(Clone, Debug)]
pub(crate) enum Client<'a> {
    /// A user who is signed in, or whose device is recognized.
    Recognized(UserId),
    /// A client whose device is not recognized: its network, and the name it gives.
    Unrecognized { bucket: Option<IpNet>, name: &'a str },
    /// The service itself, or its command line.
    Own,
}

/// A queue with places to wait and turns to hash. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::domain) struct FairQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    hasher: RandomState,
    /// Number of clients that may wait.
    places: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free_turns: usize,
    waiting: Vec<Waiting>,
    next_number: u64,
    /// Whether the last turn for which both kinds waited went to a recognized client.
    was_recognized: bool,
    charges: Charges,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    is_recognized: bool,
    groups: Vec<Group>,
    /// Turns that the client's groups had taken when it entered, including this one.
    attained: Attained,
    turn: oneshot::Sender<Turn>,
}

/// A place in the queue. Its turn may have come already.
#[derive(Debug)]
pub(in crate::domain) struct Ticket {
    queue: FairQueue,
    number: u64,
    turn: oneshot::Receiver<Turn>,
}

/// The right to hash, until it is dropped.
#[derive(Debug)]
pub(in crate::domain) struct Turn(Option<FairQueue>);

/// The error if the queue is full and no client in it has had more turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Full;

impl FairQueue {
    /// Creates a queue in which `turns` clients have their turn at once, and `places` clients wait.
    pub(in crate::domain) fn new(turns: usize, places: usize) -> Self {
        Self(Arc::new(Shared {
            hasher: RandomState::new(),
            places,
            state: Mutex::new(State {
                free_turns: turns,
                waiting: Vec::new(),
                next_number: 0,
                was_recognized: false,
                charges: Charges::default(),
            }),
        }))
    }

    /// Returns whether this client would find a place now.
    pub(in crate::domain) fn has_place(&self, client: &Client<'_>) -> bool {
        let (is_recognized, groups) = self.groups(client);
        let state = self.state();
        if state.free_turns > 0 || state.waiting.len() < self.0.places {
            return true;
        }
        let now = Instant::now();
        let attained = state.charges.score(&groups, now, 1.0);
        self.displaced(&state, is_recognized, attained, now).is_some()
    }

    /// Takes a place for this client. If the queue is full, displaces a client that has had more
    /// turns, or fails.
    pub(in crate::domain) fn enter(&self, client: &Client<'_>) -> Result<Ticket, Full> {
        let (is_recognized, groups) = self.groups(client);
        let now = Instant::now();
        let mut state = self.state();
        let attained = state.charges.score(&groups, now, 1.0);
        if state.free_turns == 0 && state.waiting.len() >= self.0.places {
            let displaced = self.displaced(&state, is_recognized, attained, now).ok_or(Full)?;
            let displaced = state.waiting.swap_remove(displaced);
            // Dropping its sender tells the client that it has lost its place.
            state
                .charges
                .charge(&displaced.groups, now, -displaced.attained.decay(now));
        }
        state.charges.charge(&groups, now, 1.0);
        let (sender, turn) = oneshot::channel();
        let number = state.next_number;
        state.next_number += 1;
        state.waiting.push(Waiting {
            number,
            is_recognized,
            groups,
            attained: Attained {
                turns: attained,
                since: now,
            },
            turn: sender,
        });
        drop(state);
        self.give_turns();
        Ok(Ticket {
            queue: self.clone(),
            number,
            turn,
        })
    }

    #[cfg(test)]
    pub(in crate::domain) fn free_places(&self) -> usize {
        let state = self.state();
        state.free_turns + self.0.places - state.waiting.len()
    }

    /// Returns the index of the waiting client that a client with this many turns may displace.
    fn displaced(&self, state: &State, is_recognized: bool, attained: f64, now: Instant) -> Option<usize> {
        let recognized = state.waiting.iter().filter(|waiting| waiting.is_recognized).count();
        let share = self.0.places.div_ceil(RECOGNIZED_SHARE);
        // Recognized clients may displace others until they have their share, however many turns
        // they have had.
        let takes_share = is_recognized && recognized < share;
        let spares_recognized = !is_recognized && recognized <= share;
        let most = state
            .waiting
            .iter()
            .enumerate()
            .filter(|(_, waiting)| {
                if takes_share {
                    !waiting.is_recognized
                } else {
                    !(spares_recognized && waiting.is_recognized)
                }
            })
            .map(|(index, waiting)| (index, waiting.attained.at(now)))
            .max_by(|one, other| one.1.total_cmp(&other.1))?;
        (takes_share || most.1 > attained).then_some(most.0)
    }

    /// Gives free turns to clients that wait.
    fn give_turns(&self) {
        loop {
            let mut state = self.state();
            if state.free_turns == 0 {
                return;
            }
            let Some(next) = state.take_next(Instant::now()) else {
                return;
            };
            state.free_turns -= 1;
            drop(state);
            // If the client has gone, the turn is dropped here and so given back.
            let _ = next.turn.send(Turn(Some(self.clone())));
        }
    }

    fn groups(&self, client: &Client<'_>) -> (bool, Vec<Group>) {
        match client {
            Client::Own => (true, Vec::new()),
            Client::Recognized(user) => (true, vec![Group::User(*user)]),
            Client::Unrecognized { bucket, name } => {
                let mut groups: Vec<Group> = bucket
                    .map(rate::prefixes)
                    .into_iter()
                    .flatten()
                    .map(Group::Network)
                    .collect();
                // The widest network comes first, because it counts most.
                groups.reverse();
                groups.push(Group::Name(self.0.hasher.hash_one(name)));
                (false, groups)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves the state consistent.
        self.0.state.lock()
    }
}

impl State {
    /// Takes the client that has had the fewest turns out of the queue. While both kinds wait,
    /// recognized clients and others alternate.
    fn take_next(&mut self, now: Instant) -> Option<Waiting> {
        let waits = |is_recognized: bool| {
            self.waiting
                .iter()
                .any(|waiting| waiting.is_recognized == is_recognized)
        };
        let is_recognized = if waits(true) && waits(false) {
            self.was_recognized = !self.was_recognized;
            self.was_recognized
        } else {
            waits(true)
        };
        let least = self
            .waiting
            .iter()
            .enumerate()
            .filter(|(_, waiting)| waiting.is_recognized == is_recognized)
            .map(|(index, waiting)| (index, waiting.attained.at(now), waiting.number))
            .min_by(|one, other| one.1.total_cmp(&other.1).then(one.2.cmp(&other.2)))?;
        Some(self.waiting.swap_remove(least.0))
    }
}

impl Ticket {
    /// Waits for the turn. Fails if a client that has had fewer turns takes the place.
    pub(in crate::domain) async fn turn(mut self) -> Result<Turn, Full> {
        (&mut self.turn).await.map_err(|_| Full)
    }
}

impl Drop for Ticket {
    /// Leaves the queue if the turn has not come yet.
    fn drop(&mut self) {
        let mut state = self.queue.state();
        if let Some(index) = state.waiting.iter().position(|waiting| waiting.number == self.number) {
            let left = state.waiting.swap_remove(index);
            let now = Instant::now();
            state.charges.charge(&left.groups, now, -left.attained.decay(now));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.state().free_turns += 1;
            queue.give_turns();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::passwords::charges::MEMORY;

    fn stranger<'a>(address: &str, name: &'a str) -> Client<'a> {
        Client::Unrecognized {
            bucket: Some(address.parse().expect("a network")),
            name,
        }
    }

    fn enter(queue: &FairQueue, client: &Client<'_>) -> Result<Ticket, Full> {
        queue.enter(client)
    }

    /// Lets these clients enter in this order while the only turn is taken. Returns the order in
    /// which they then get their turns.
    async fn order(clients: &[Client<'_>]) -> Vec<usize> {
        let queue = FairQueue::new(1, clients.len());
        let first = enter(&queue, &Client::Own)
            .expect("a place")
            .turn()
            .await
            .expect("a turn");
        let mut places: Vec<_> = clients
            .iter()
            .map(|client| Some(enter(&queue, client).expect("a place")))
            .collect();
        let mut order = Vec::new();
        let mut turn = Some(first);
        while order.len() < clients.len() {
            drop(turn.take());
            for (index, place) in places.iter_mut().enumerate() {
                if let Some(mut waits) = place.take() {
                    match waits.turn.try_recv() {
                        Ok(came) => {
                            order.push(index);
                            turn = Some(came);
                        }
                        Err(_) => *place = Some(waits),
                    }
                }
            }
        }
        order
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_with_many_addresses_waits_behind_other_networks() {
        let networks: Vec<String> = (0..8).map(|number| format!("2001:db8:bad:{number:x}::/64")).collect();
        let names: Vec<String> = (0..8).map(|number| format!("guessed-{number}")).collect();
        let mut clients: Vec<_> = networks
            .iter()
            .zip(&names)
            .map(|(network, name)| stranger(network, name))
            .collect();
        clients.push(stranger("2001:db8:1:1::/64", "ann"));
        clients.push(stranger("198.51.100.1/32", "bob"));
        let order = order(&clients).await;
        // The first guesser may come before them: when it entered, its network had had no turns.
        let position = |client: usize| order.iter().position(|other| *other == client).expect("a turn");
        assert!(position(8) <= 2 && position(9) <= 2, "{order:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_at_one_account_wait_behind_other_logins() {
        let addresses: Vec<String> = (0..8).map(|number| format!("198.51.100.{number}/32")).collect();
        let mut clients: Vec<_> = addresses.iter().map(|address| stranger(address, "victim")).collect();
        clients.push(stranger("203.0.113.1/32", "ann"));
        let order = order(&clients).await;
        assert!(
            order.iter().position(|client| *client == 8).expect("a turn") <= 1,
            "{order:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn recognized_clients_get_every_other_turn() {
        let users = [UserId::generate(), UserId::generate()];
        let clients = [
            stranger("198.51.100.1/32", "a"),
            stranger("198.51.100.2/32", "b"),
            stranger("198.51.100.3/32", "c"),
            Client::Recognized(users[0]),
            Client::Recognized(users[1]),
        ];
        assert_eq!(order(&clients).await, [3, 0, 4, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_displaces_the_client_with_the_most_turns() {
        let queue = FairQueue::new(1, 4);
        let turn = enter(&queue, &Client::Own)
            .expect("a place")
            .turn()
            .await
            .expect("a turn");
        let mut places: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .map(|name| enter(&queue, &stranger("2001:db8:bad:1::/64", name)).expect("a place"))
            .collect();
        // This client's network has had as many turns.
        assert!(!queue.has_place(&stranger("2001:db8:bad:2::/64", "e")));
        assert_eq!(
            enter(&queue, &stranger("2001:db8:bad:2::/64", "e")).map(drop),
            Err(Full)
        );
        // Another network has had no turns, so the last client of the first network is displaced.
        let other = stranger("198.51.100.1/32", "ann");
        assert!(queue.has_place(&other));
        let ann = enter(&queue, &other).expect("a place");
        let last = places.pop().expect("the last").turn().await;
        assert!(last.is_err(), "it is told that it has lost its place");
        drop(turn);
        drop(places);
        ann.turn().await.expect("a turn");
    }

    #[tokio::test(start_paused = true)]
    async fn recognized_clients_have_reserved_places_in_a_full_queue() {
        let queue = FairQueue::new(1, 8);
        let turn = enter(&queue, &Client::Own)
            .expect("a place")
            .turn()
            .await
            .expect("a turn");
        let addresses: Vec<String> = (0..8).map(|number| format!("198.51.100.{number}/32")).collect();
        let others: Vec<_> = addresses
            .iter()
            .map(|address| enter(&queue, &stranger(address, address)).expect("a place"))
            .collect();
        let recognized: Vec<_> = (0..2)
            .map(|_| enter(&queue, &Client::Recognized(UserId::generate())).expect("a place of the share"))
            .collect();
        // Other clients do not take these places.
        assert_eq!(enter(&queue, &stranger("203.0.113.1/32", "new")).map(drop), Err(Full));
        drop(turn);
        drop(others);
        for place in recognized {
            place.turn().await.expect("a turn");
        }
        assert_eq!(queue.free_places(), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn past_turns_are_forgotten_and_memory_is_bounded() {
        let queue = FairQueue::new(1, 1);
        for number in 0..5000_u32 {
            let network = format!("2001:db8:{number:x}::/64");
            let place = enter(&queue, &stranger(&network, &network)).expect("a place");
            place.turn().await.expect("a turn");
            tokio::time::advance(Duration::from_millis(20)).await;
        }
        let kept = queue.state().charges.len();
        assert!(kept < 4 * (1500 + 1024), "{kept}");
        let guesser: IpNet = "2001:db8:1387::/48".parse().expect("a network");
        let groups = [Group::Network(guesser)];
        assert!(queue.state().charges.score(&groups, Instant::now(), 0.0) > 0.9);
        tokio::time::advance(MEMORY * 5).await;
        assert!(queue.state().charges.score(&groups, Instant::now(), 0.0) < 0.01);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_the_queue_gives_up_its_turn() {
        let queue = FairQueue::new(1, 2);
        let turn = enter(&queue, &Client::Own)
            .expect("a place")
            .turn()
            .await
            .expect("a turn");
        let waits = enter(&queue, &Client::Own).expect("a place");
        let gone = enter(&queue, &Client::Own).expect("a place");
        drop(gone);
        drop(turn);
        // The turn has come, but is not taken.
        drop(waits);
        assert_eq!(queue.free_places(), 3);
        enter(&queue, &Client::Own)
            .expect("a place")
            .turn()
            .await
            .expect("a turn");
    }
}
