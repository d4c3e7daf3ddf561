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

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        generate_salt,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use base::{concurrency_limit::Refusals, validate::InvalidFields};
use metrics::histogram;
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::oneshot;

use crate::domain::{
    counts,
    error::Error,
    passwords::{
        breached::BreachedPasswords,
        imported::{Cost, HashLimits, ImportedHash, is_imported},
        low_priority::{LowPriorityThread, processor_time},
        padding::{Padding, most_expensive},
        password::Password,
        queue::{Client, FairQueue, Full, Turn},
        unusable::UNUSABLE_SALT,
    },
};

/// Length of a hash, in bytes.
const OUTPUT_LEN: usize = 32;

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

/// Reason why a password that was chosen is not hashed.
enum NotHashed {
    Breached,
    Unreadable(io::Error),
    Failed(argon2::password_hash::Error),
}

/// Result of the verification of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The password was wrong.
    Wrong,
    /// The password was right.
    Right,
    /// The password was right, but its hash does not have the current parameters, or was imported.
    RightButOutdated,
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
        Ok(Self {
            argon2,
            threads: spawn(settings.workers).map_err(|error| bad(&error))?,
            queue: FairQueue::new(turns, places - turns),
            refusals: Refusals::new(REFUSALS),
            dummy: Arc::new(SecretString::from(dummy)),
            padding: Arc::default(),
            breached: None,
        })
    }

    /// Refuses to hash a chosen password that is in this file.
    pub(crate) fn with_breached(self, breached: Option<BreachedPasswords>) -> Self {
        Self { breached, ..self }
    }

    /// Hashes a password that is being set, with a new salt. Returns the PHC string. Refuses a
    /// breached password; `field` is the field of the request that the error names.
    pub(crate) async fn hash(
        &self,
        client: &Client<'_>,
        password: Password,
        field: &'static str,
    ) -> Result<SecretString, Error> {
        let permit = self.permit(client).await?;
        let breached = self.breached.clone();
        let hash = self.run(permit, move |argon2, memory| {
            // The look-up may wait for the disk, so it is done on this thread as well.
            let is_breached = breached.map(|breached| breached.contains(&password)).transpose();
            if is_breached.map_err(NotHashed::Unreadable)? == Some(true) {
                return Err(NotHashed::Breached);
            }
            new_hash(argon2, &password, memory).map_err(NotHashed::Failed)
        });
        hash.await?.map_err(|error| match error {
            NotHashed::Breached => {
                InvalidFields::one(field, "must not be a password that is known from a data breach").into()
            }
            NotHashed::Unreadable(error) => Error::Internal(format!("cannot read the breached passwords: {error}")),
            NotHashed::Failed(error) => internal(error),
        })
    }

    /// Hashes the present password of a user again, with the current scheme and parameters.
    pub(crate) async fn rehash(&self, client: &Client<'_>, password: Password) -> Result<SecretString, Error> {
        let permit = self.permit(client).await?;
        let hash = self.run(permit, move |argon2, memory| new_hash(argon2, &password, memory));
        hash.await?.map_err(internal)
    }

    /// Returns the PHC string of a random hash, which no known password matches, for a user
    /// [without a password](super::unusable). To verify a password against it takes as long as
    /// against any other.
    pub(crate) fn unusable(&self) -> Result<SecretString, Error> {
        let hash = random_hash(&self.argon2, &UNUSABLE_SALT);
        hash.map(SecretString::from).map_err(internal)
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

    /// Verifies the password. If it is refused, this takes as long as the slowest hash among those
    /// that are [expected](Self::expect).
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

    /// Makes refusals take as long as the slowest of our hashes and of imported hashes of these
    /// costs. Without any, they take as long as ours.
    pub(in crate::domain) async fn expect(&self, imported: &[Cost]) -> Result<(), Error> {
        let mut costs = most_expensive(imported);
        if !costs.is_empty() {
            costs.push(cost_of(self.argon2.params()));
        }
        for cost in &costs {
            let cost = *cost;
            if !self.padding.is_unmeasured(cost) {
                continue;
            }
            let permit = self.permit(&Client::Own).await?;
            let time = self.run(permit, move |_, memory| {
                let hash = ImportedHash::random(cost);
                // The first time includes the cost of new memory.
                hash.is_of(b"password", memory)?;
                let start = processor_time();
                hash.is_of(b"password", memory)?;
                Ok::<_, argon2::Error>(processor_time().saturating_sub(start))
            });
            let time = time.await?.map_err(|error| internal(error.into()))?;
            self.padding.observe(cost, time);
        }
        self.padding.set_present(&costs);
        Ok(())
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

/// Verifies a password against one of our hashes. Returns its cost as well.
fn verify_own(
    ours: &Argon2<'_>,
    hash: &str,
    password: &Password,
    memory: &mut Vec<Block>,
) -> Result<(Verdict, Cost), argon2::password_hash::Error> {
    let stored = PasswordHash::new(hash)?;
    let params = Params::try_from(&stored)?;
    let (Some(salt), Some(output)) = (stored.salt, stored.hash) else {
        return Err(argon2::password_hash::Error::EncodingInvalid);
    };
    let cost = cost_of(&params);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    // The comparison takes constant time.
    let verdict = if digest(&argon2, password, &salt, output.len(), memory)? != output {
        Verdict::Wrong
    } else if cost == cost_of(ours.params()) {
        Verdict::Right
    } else {
        Verdict::RightButOutdated
    };
    Ok((verdict, cost))
}

/// Does the same with a hash of another system.
fn verify_imported(
    hash: &str,
    password: &Password,
    memory: &mut Vec<Block>,
) -> Result<(Verdict, Cost), argon2::password_hash::Error> {
    let stored =
        ImportedHash::parse(hash, HashLimits::HIGHEST).map_err(|_| argon2::password_hash::Error::EncodingInvalid)?;
    let verdict = if stored.is_of(password.as_typed(), memory)? {
        Verdict::RightButOutdated
    } else {
        Verdict::Wrong
    };
    Ok((verdict, stored.cost()))
}

fn cost_of(params: &Params) -> Cost {
    Cost::Argon2 {
        memory_kib: params.m_cost(),
        passes: params.t_cost(),
        lanes: params.p_cost(),
    }
}

/// Hashes a password with a new salt.
fn new_hash(
    argon2: &Argon2<'_>,
    password: &Password,
    memory: &mut Vec<Block>,
) -> Result<SecretString, argon2::password_hash::Error> {
    let salt = generate_salt();
    let output = digest(argon2, password, &salt, OUTPUT_LEN, memory)?;
    phc(argon2, &salt, output).map(SecretString::from)
}

/// Computes a hash, in memory that is kept for the next one.
fn digest(
    argon2: &Argon2<'_>,
    password: &Password,
    salt: &[u8],
    len: usize,
    memory: &mut Vec<Block>,
) -> Result<Output, argon2::password_hash::Error> {
    let blocks = argon2.params().block_count();
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    let mut output = [0; Output::MAX_LENGTH];
    let output = output.get_mut(..len).ok_or(argon2::password_hash::Error::OutputSize)?;
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, &mut memory[..blocks])?;
    Ok(Output::new(output)?)
}

/// Returns the PHC string of a hash.
fn phc(argon2: &Argon2<'_>, salt: &[u8], output: Output) -> Result<String, argon2::password_hash::Error> {
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(argon2.params())?,
        salt: Some(Salt::new(salt)?),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

/// Returns a PHC string for which nobody knows a password: its hash is random.
fn dummy(argon2: &Argon2<'_>) -> Result<String, argon2::password_hash::Error> {
    random_hash(argon2, &generate_salt())
}

fn random_hash(argon2: &Argon2<'_>, salt: &[u8]) -> Result<String, argon2::password_hash::Error> {
    let mut output = [0; OUTPUT_LEN];
    rand::fill(&mut output[..]);
    phc(argon2, salt, Output::new(&output)?)
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

fn internal(error: argon2::password_hash::Error) -> Error {
    Error::Internal(format!("argon2: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::passwords::low_priority::NICENESS;

    const CHEAP: HashingSettings = HashingSettings {
        workers: 1,
        queue: 1,
        memory_kib: 8,
        passes: 1,
    };

    fn password(text: &str) -> Password {
        Password::presented(text).expect("a good password")
    }

    #[tokio::test]
    async fn right_and_wrong_passwords_are_distinguished() {
        let pool = HashingPool::new(CHEAP).expect("good settings");
        let hash = pool
            .hash(&Client::Own, password("correct horse"), "password")
            .await
            .expect("hashed");
        let verdict = async |text, stored| {
            let permit = pool.permit(&Client::Own).await.expect("a turn");
            pool.verify(permit, password(text), stored).await.expect("verified")
        };
        assert_eq!(
            verdict("correct horse", Stored::User(hash.clone())).await,
            Verdict::Right
        );
        assert_eq!(
            verdict("correct horse", Stored::Barred(hash.clone())).await,
            Verdict::Right
        );
        assert_eq!(verdict("wrong horse", Stored::User(hash)).await, Verdict::Wrong);
        assert_eq!(verdict("nobody's", Stored::Nobody).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn hashing_threads_run_at_low_priority() {
        let pool = HashingPool::new(CHEAP).expect("good settings");
        let niceness = || -> i32 {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux tells");
            // The 17th field after the name in parentheses.
            let (_, rest) = stat.rsplit_once(')').expect("a name");
            let field = rest.split_whitespace().nth(16).expect("many fields");
            field.parse().expect("a number")
        };
        let (sender, nice) = oneshot::channel();
        let job = Box::new(move |_: &mut Vec<Block>| sender.send(niceness()).expect("the test waits"));
        pool.threads.send(job).expect("a thread");
        assert_eq!(nice.await.expect("an answer"), NICENESS);
    }

    #[tokio::test]
    async fn a_panicking_job_does_not_end_its_thread() {
        let pool = HashingPool::new(CHEAP).expect("good settings");
        let permit = pool.permit(&Client::Own).await.expect("a turn");
        let panicked = pool.run::<()>(permit, |_, _| panic!("on purpose")).await;
        assert!(matches!(panicked, Err(Error::Internal(_))));
        pool.hash(&Client::Own, password("correct horse"), "password")
            .await
            .expect("the only thread goes on");
    }

    #[tokio::test]
    async fn a_hash_with_other_parameters_is_outdated() {
        let old = HashingPool::new(CHEAP).expect("good settings");
        let new = HashingPool::new(HashingSettings { passes: 2, ..CHEAP }).expect("good settings");
        let hash = old
            .hash(&Client::Own, password("correct horse"), "password")
            .await
            .expect("hashed");
        let permit = new.permit(&Client::Own).await.expect("a turn");
        let verdict = new
            .verify(permit, password("correct horse"), Stored::User(hash))
            .await
            .expect("verified");
        assert_eq!(verdict, Verdict::RightButOutdated);
    }

    #[tokio::test]
    async fn an_imported_hash_is_verified_and_then_outdated() {
        // Made by Django:
        // `PBKDF2PasswordHasher().encode("zażółć gęślą jaźń", "saltsaltsalt", iterations=10000)`
        let hash = "pbkdf2_sha256$10000$saltsaltsalt$B7SMkouvDBcKdr1WfPyn+2JGT+RjJTqm0g/VaV97lcs=";
        let pool = HashingPool::new(CHEAP).expect("good settings");
        let verdict = async |text, hash: &str| {
            let permit = pool.permit(&Client::Own).await.expect("a turn");
            let stored = Stored::User(SecretString::from(hash));
            pool.verify(permit, password(text), stored).await
        };
        let right = verdict("zażółć gęślą jaźń", hash).await.expect("verified");
        assert_eq!(right, Verdict::RightButOutdated);
        let wrong = verdict("correct horse", hash).await.expect("verified");
        assert_eq!(wrong, Verdict::Wrong);
        // A corrupt row is an error, and its hash does not get into the log.
        let error = verdict("correct horse", &hash[..50]).await.expect_err("corrupt");
        assert!(!error.to_string().contains("salt"), "{error}");
    }

    #[tokio::test]
    async fn refusals_take_as_long_as_the_slowest_expected_hash() {
        const SLOW: Cost = Cost::Bcrypt { cost: 10 };
        let pool = HashingPool::new(CHEAP).expect("good settings");
        let hash = pool.hash(&Client::Own, password("correct horse"), "password");
        let hash = hash.await.expect("hashed");
        let time = async |text, stored| {
            let permit = pool.permit(&Client::Own).await.expect("a turn");
            let start = Instant::now();
            pool.verify(permit, password(text), stored).await.expect("verified");
            start.elapsed()
        };
        pool.expect(&[SLOW, Cost::Bcrypt { cost: 4 }]).await.expect("measured");
        let mut memory = Vec::new();
        let start = processor_time();
        ImportedHash::random(SLOW)
            .is_of(b"password", &mut memory)
            .expect("hashed");
        let slow = processor_time().saturating_sub(start).mul_f64(0.6);
        // Time on a busy machine passes more quickly than its processors work, never more slowly.
        assert!(time("wrong horse", Stored::User(hash.clone())).await > slow);
        assert!(time("wrong horse", Stored::Nobody).await > slow);
        assert!(time("correct horse", Stored::Barred(hash.clone())).await > slow);
        // Without imported hashes, nothing is padded.
        pool.expect(&[]).await.expect("nothing to measure");
        let (mut shortest, mut tries) = (Duration::MAX, 0);
        while shortest > slow && tries < 20 {
            shortest = shortest.min(time("wrong horse", Stored::User(hash.clone())).await);
            tries += 1;
        }
        assert!(shortest < slow, "{shortest:?}");
    }

    #[tokio::test]
    async fn a_cancelled_call_is_not_hashed() {
        let pool = HashingPool::new(CHEAP).expect("good settings");
        let (end, ended) = mpsc::channel::<()>();
        let permit = async || pool.permit(&Client::Own).await.expect("a turn");
        let mut running = Box::pin(pool.run(permit().await, move |_, _| ended.recv().is_err()));
        let (hashed, mut has_hashed) = oneshot::channel();
        let hash = pool.run(permit().await, move |_, _| hashed.send(()));
        // Both jobs have been sent to the thread now.
        assert!(futures_util::poll!(&mut running).is_pending());
        assert!(tokio::time::timeout(Duration::ZERO, hash).await.is_err());
        drop(end);
        assert!(running.await.expect("no panic"));
        // The thread and both places are free for the next hash.
        pool.hash(&Client::Own, password("correct horse"), "password")
            .await
            .expect("hashed");
        assert!(has_hashed.try_recv().is_err());
        assert_eq!(pool.queue.free_places(), 2);
    }

    #[tokio::test]
    async fn a_hash_is_refused_if_the_queue_is_full() {
        let pool = HashingPool::new(CHEAP).expect("good settings");
        let (end, ended) = mpsc::channel::<()>();
        let running = tokio::spawn({
            let pool = pool.clone();
            let permit = pool.permit(&Client::Own).await.expect("a turn");
            async move { pool.run(permit, move |_, _| ended.recv().is_err()).await }
        });
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.hash(&Client::Own, password("correct horse"), "password").await }
        });
        while pool.queue.free_places() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(
            pool.hash(&Client::Own, password("correct horse"), "password").await,
            Err(Error::HashingQueueFull(_))
        ));
        drop(end);
        assert!(running.await.expect("joined").expect("no panic"));
        waiting.await.expect("joined").expect("hashed once there was a worker");
    }
}
