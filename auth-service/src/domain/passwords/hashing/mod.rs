//! Hashes passwords on a bounded pool of threads with a bounded queue. So a flood of logins costs a
//! bounded amount of memory, and takes no more than a fair share of the processors from the other
//! RPCs.
//!
//! The pool has its own threads, with a [low priority](LowPriorityThread). Each thread keeps its
//! memory for the next hash. If it gave the memory back, the next hash would have to page it in
//! again.
//!
//! The default is argon2id with m = 19 MiB, t = 2, p = 1: OWASP's minimum configuration (Password
//! Storage Cheat Sheet). Hashes that were imported from another system are verified as they are.

mod chosen;
mod expected;
mod imported;
mod own;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base::concurrency_limit::Refusals;
use metrics::histogram;
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::oneshot;

pub(crate) use self::own::Verdict;
use self::{
    imported::verify_imported,
    own::{cost_of, dummy, internal, new_hash, verify_own},
};
use crate::domain::{
    counts,
    error::Error,
    passwords::{
        breached::BreachedPasswords,
        imported::is_imported,
        low_priority::{LowPriorityThread, processor_time},
        padding::Padding,
        password::Password,
        queue::{Client, FairQueue, Full, Turn},
    },
};

/// Number of turns for each thread: one for the hash that it works on, and one for the next. So a
/// thread does not wait for its next hash to be handed over.
const HASHES_PER_THREAD: usize = 2;

/// Refusals per second before the suggested back-off grows. At about 100 us each, they take a
/// fiftieth of a processor.
const REFUSALS: u32 = 200;

/// A job for a thread, which lends it its memory.
type Job = Box<dyn FnOnce(&mut Vec<Block>) + Send>;

/// How many hashes run and wait, and how much each costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashingSettings {
    /// Number of hashes that run at once. Each takes a core and the memory below.
    pub(crate) workers: usize,
    /// Number of hashes that may wait. Further ones are refused.
    pub(crate) queue: usize,
    /// Memory of argon2 (m), in KiB.
    pub(crate) memory_kib: u32,
    /// Passes of argon2 over its memory (t).
    pub(crate) passes: u32,
}

impl Default for HashingSettings {
    /// Returns settings for a command, which hashes one password. If the service has other
    /// parameters, it hashes the password again at the next login.
    fn default() -> Self {
        Self {
            workers: 1,
            queue: 0,
            memory_kib: 19_456,
            passes: 2,
        }
    }
}

/// Hashes and verifies passwords.
#[derive(Clone, Debug)]
pub(crate) struct HashingPool {
    argon2: Argon2<'static>,
    threads: mpsc::Sender<Job>,
    /// Queue of clients, with [`HASHES_PER_THREAD`] turns for each thread.
    queue: FairQueue,
    refusals: Refusals,
    /// PHC string that is verified in place of that of a user who does not exist.
    dummy: Arc<SecretString>,
    padding: Arc<Padding>,
    /// Passwords that nobody may choose.
    breached: Option<BreachedPasswords>,
}

/// The stored hash that a password is verified against.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    /// Nothing, because there is no such user: the password is always wrong, after the same work.
    Nobody,
    /// Hash of a user who cannot log in. Even the right password takes as long as a wrong one.
    Barred(SecretString),
    /// Hash of a user who can log in.
    User(SecretString),
}

/// The right to hash one password.
#[derive(Debug)]
pub(crate) struct Permit {
    turn: Turn,
    /// Start of the wait for a turn.
    since: Instant,
}

impl HashingPool {
    /// Creates a pool with these settings. Fails if argon2 does not accept them, or if a thread
    /// cannot be started.
    pub(crate) fn new(settings: HashingSettings) -> Result<Self, Error> {
        let bad = |error: &dyn std::fmt::Display| Error::Internal(format!("argon2: {error}"));
        let params = Params::new(settings.memory_kib, settings.passes, 1, None).map_err(|error| bad(&error))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let dummy = dummy(&argon2).map_err(|error| bad(&error))?;
        // Clients that have their turn and clients that wait, together.
        let places = settings.workers + settings.queue;
        let turns = places.min(HASHES_PER_THREAD * settings.workers);
        let padding = Padding::default();
        padding.set_present(&[cost_of(argon2.params())]);
        Ok(Self {
            argon2,
            threads: spawn(settings.workers).map_err(|error| bad(&error))?,
            queue: FairQueue::new(turns, places - turns),
            refusals: Refusals::new(REFUSALS),
            dummy: Arc::new(SecretString::from(dummy)),
            padding: Arc::new(padding),
            breached: None,
        })
    }

    /// Hashes the present password of a user again, with the current scheme and parameters.
    pub(crate) async fn rehash(&self, client: &Client<'_>, password: Password) -> Result<SecretString, Error> {
        let permit = self.permit(client).await?;
        let hash = self.run(permit, move |argon2, memory| new_hash(argon2, &password, memory));
        hash.await?.map_err(internal)
    }

    /// Returns the PHC string of a random hash, which no known password matches. To verify a
    /// password against it takes as long as against any other.
    pub(crate) fn unusable(&self) -> Result<SecretString, Error> {
        dummy(&self.argon2).map(SecretString::from).map_err(internal)
    }

    /// Fails as [`permit`](Self::permit) does if there is no place at present. Called early, so
    /// that calls that will be refused cost nothing else.
    pub(crate) fn ensure_room(&self, client: &Client<'_>) -> Result<(), Error> {
        if self.queue.has_place(client) {
            return Ok(());
        }
        Err(self.refuse(Full))
    }

    /// Waits for a turn to hash. Callers that count attempts do so afterwards, so that an attempt
    /// is not counted if it is refused for lack of a place.
    pub(crate) async fn permit(&self, client: &Client<'_>) -> Result<Permit, Error> {
        let since = Instant::now();
        let waiting = counts::hash_waiting();
        let ticket = self.queue.enter(client).map_err(|full| self.refuse(full))?;
        let turn = ticket.turn().await.map_err(|full| self.refuse(full))?;
        drop(waiting);
        Ok(Permit { turn, since })
    }

    fn refuse(&self, _: Full) -> Error {
        counts::hash_refused();
        Error::HashingQueueFull(self.refusals.refuse())
    }

    /// Verifies the password. If it is refused, this takes at least as long as one of our hashes
    /// with the present settings, and as the slowest of those that are [expected](Self::expect).
    pub(crate) async fn verify(&self, permit: Permit, password: Password, stored: Stored) -> Result<Verdict, Error> {
        let (hash, exists, is_barred) = match stored {
            Stored::Nobody => (SecretString::clone(&self.dummy), false, true),
            Stored::Barred(hash) => (hash, true, true),
            Stored::User(hash) => (hash, true, false),
        };
        let padding = Arc::clone(&self.padding);
        let verified = self.run(permit, move |ours, memory| {
            let start = processor_time();
            let hash = hash.expose_secret();
            let (verdict, cost) = if is_imported(hash) {
                verify_imported(hash, &password, memory)?
            } else {
                verify_own(ours, hash, &password, memory)?
            };
            padding.observe(cost, processor_time().saturating_sub(start));
            if is_barred || verdict == Verdict::Wrong {
                let own = cost_of(ours.params());
                if padding.is_unmeasured(own) {
                    // The hash had other parameters, and is the first one of this process.
                    let start = processor_time();
                    new_hash(ours, &password, memory)?;
                    padding.observe(own, processor_time().saturating_sub(start));
                }
                padding.work_since(start);
            }
            // An imported hash may need more memory than ours.
            memory.truncate(ours.params().block_count());
            memory.shrink_to_fit();
            Ok::<_, argon2::password_hash::Error>(verdict)
        });
        let verdict = verified.await?.map_err(internal)?;
        Ok(if exists { verdict } else { Verdict::Wrong })
    }

    async fn run<T: Send + 'static>(
        &self,
        permit: Permit,
        work: impl FnOnce(&Argon2<'_>, &mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let argon2 = self.argon2.clone();
        let (answer, answered) = oneshot::channel();
        // The permit moves into the job, because a cancelled call does not stop a running hash.
        let job = Box::new(move |memory: &mut Vec<Block>| {
            if answer.is_closed() {
                return;
            }
            let running = counts::hash_running();
            let result = work(&argon2, memory);
            histogram!(counts::HASH_DURATION).record(permit.since.elapsed().as_secs_f64());
            drop((running, permit.turn));
            // The caller may have gone.
            let _ = answer.send(result);
        });
        let gone = || Error::Internal("a thread that hashes has ended".to_owned());
        self.threads.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

/// Starts this many threads. They run the jobs that are sent, until the sender is dropped.
fn spawn(threads: usize) -> io::Result<mpsc::Sender<Job>> {
    let (sender, jobs) = mpsc::channel::<Job>();
    let jobs = Arc::new(Mutex::new(jobs));
    for number in 0..threads {
        let jobs = Arc::clone(&jobs);
        let thread = thread::Builder::new().name(format!("hashing-{number}"));
        thread.spawn(move || {
            let mut low_priority = LowPriorityThread::enter(number >= threads.div_ceil(2));
            let mut memory = Vec::new();
            loop {
                // The lock is held only while a job is received, so a panic in a job cannot affect
                // it.
                let job = jobs.lock().recv();
                let Ok(job) = job else { return };
                low_priority.run(|| job(&mut memory));
            }
        })?;
    }
    Ok(sender)
}
