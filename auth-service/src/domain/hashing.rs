//! Hashes passwords on a bounded pool with a bounded queue, so that a storm of logins costs a bounded amount of memory and
//! leaves the other RPCs alone.
//!
//! The memory of a hash is kept for the next one: giving it back each time leaves the allocator with many times as much, and
//! costs the pages anew.
//!
//! argon2id with m = 19 MiB, t = 2, p = 1: the first of OWASP's recommended parameters (Password Storage Cheat Sheet).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHasher as _, Version,
    password_hash::{
        generate_salt,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use metrics::histogram;
use secrecy::{ExposeSecret as _, SecretString};
use shared::telemetry::metrics::InHand;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{counts, error::Error, password::Password};

/// Bytes of a hash.
const OUTPUT_LEN: usize = 32;

/// How many hashes run and wait, and what each costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashingSettings {
    /// At once. Each takes a core, and the memory of the parameters.
    pub(crate) workers: usize,
    /// More than these are refused.
    pub(crate) queue: usize,
    /// argon2's memory in KiB.
    pub(crate) memory_kib: u32,
    /// argon2's passes over it.
    pub(crate) passes: u32,
}

impl Default for HashingSettings {
    /// For one hash at a time. Where a service has other parameters, it hashes the password anew at the next login.
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
    /// Of workers that are idle.
    memory: Arc<Mutex<Vec<Vec<Block>>>>,
    /// Places for all that run and wait.
    places: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    /// Verified in place of the hash of a user who does not exist.
    dummy: Arc<SecretString>,
}

/// Whether a password was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was not.
    Wrong,
    /// It was.
    Right,
    /// It was, and its hash has parameters that are no longer ours.
    RightButOutdated,
}

/// A place in the pool, to wait or to work.
#[derive(Debug)]
pub(crate) struct Place {
    permit: OwnedSemaphorePermit,
    waiting: InHand,
    since: Instant,
}

/// A place in the pool and a worker. Only [`HashingPool::enter`] makes one, so nothing is hashed without.
#[derive(Debug)]
struct Permit {
    _place: OwnedSemaphorePermit,
    _worker: OwnedSemaphorePermit,
    _running: InHand,
    since: Instant,
}

impl HashingPool {
    /// A pool with these settings, or the text of what is wrong with them.
    pub(crate) fn new(settings: HashingSettings) -> Result<Self, Error> {
        let bad = |error: &dyn std::fmt::Display| Error::Internal(format!("argon2: {error}"));
        let params = Params::new(settings.memory_kib, settings.passes, 1, None).map_err(|error| bad(&error))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let dummy = argon2
            .hash_password(b"nobody's")
            .map_err(|error| bad(&error))?
            .to_string();
        Ok(Self {
            argon2,
            memory: Arc::default(),
            places: Arc::new(Semaphore::new(settings.workers + settings.queue)),
            workers: Arc::new(Semaphore::new(settings.workers)),
            dummy: Arc::new(SecretString::from(dummy)),
        })
    }

    /// The PHC string of a password, with a new salt.
    pub(crate) async fn hash(&self, password: Password) -> Result<SecretString, Error> {
        let hash = self.run(self.reserve()?, move |argon2, memory| {
            let salt = generate_salt();
            let output = digest(argon2, &password, &salt, OUTPUT_LEN, memory)?;
            let hash = PasswordHash {
                algorithm: Algorithm::Argon2id.ident(),
                version: Some(Version::V0x13.into()),
                params: ParamsString::try_from(argon2.params())?,
                salt: Some(Salt::new(&salt)?),
                hash: Some(output),
            };
            Ok(SecretString::from(hash.to_string()))
        });
        hash.await?.map_err(internal)
    }

    /// Whether the password is the one of this PHC string. `None` stands for a user who does not exist: always wrong,
    /// after the same work.
    pub(crate) async fn verify(&self, password: Password, hash: Option<SecretString>) -> Result<Verdict, Error> {
        self.verify_at(self.reserve()?, password, hash).await
    }

    /// A place in the pool. Who counts attempts takes it first, so that one which is refused for want of a place does not count.
    pub(crate) fn reserve(&self) -> Result<Place, Error> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let permit = place.map_err(|_| {
            counts::hash_refused();
            Error::HashingQueueFull
        })?;
        Ok(Place {
            permit,
            waiting: counts::hash_waiting(),
            since: Instant::now(),
        })
    }

    /// The same as [`verify`](Self::verify), at a place that was taken before.
    pub(crate) async fn verify_at(
        &self,
        place: Place,
        password: Password,
        hash: Option<SecretString>,
    ) -> Result<Verdict, Error> {
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| SecretString::clone(&self.dummy));
        let verified = self.run(place, move |ours, memory| {
            let stored = PasswordHash::new(hash.expose_secret())?;
            let params = Params::try_from(&stored)?;
            let (Some(salt), Some(output)) = (stored.salt, stored.hash) else {
                return Err(argon2::password_hash::Error::EncodingInvalid);
            };
            let costs = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
            let current = costs(&params) == costs(ours.params());
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            // Compared in constant time.
            Ok(if digest(&argon2, &password, &salt, output.len(), memory)? != output {
                Verdict::Wrong
            } else if current {
                Verdict::Right
            } else {
                Verdict::RightButOutdated
            })
        });
        let verdict = verified.await?.map_err(internal)?;
        Ok(if exists { verdict } else { Verdict::Wrong })
    }

    async fn run<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce(&Argon2<'_>, &mut Vec<Block>) -> Result<T, argon2::password_hash::Error> + Send + 'static,
    ) -> Result<Result<T, argon2::password_hash::Error>, Error> {
        let permit = self.enter(place).await?;
        let (argon2, idle) = (self.argon2.clone(), Arc::clone(&self.memory));
        // The permit goes with the work: a call that is cancelled does not stop its hash.
        let done = tokio::task::spawn_blocking(move || {
            let mut memory = lock(&idle).pop().unwrap_or_default();
            let result = work(&argon2, &mut memory);
            lock(&idle).push(memory);
            histogram!(counts::HASH_DURATION).record(permit.since.elapsed().as_secs_f64());
            drop(permit);
            result
        });
        done.await.map_err(|error| Error::Internal(format!("hashing: {error}")))
    }

    async fn enter(&self, place: Place) -> Result<Permit, Error> {
        let worker = Arc::clone(&self.workers).acquire_owned().await;
        let worker = worker.map_err(|error| Error::Internal(format!("hashing: {error}")))?;
        drop(place.waiting);
        Ok(Permit {
            _place: place.permit,
            _worker: worker,
            _running: counts::hash_running(),
            since: place.since,
        })
    }
}

/// The hash itself, in memory that is kept.
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

fn lock(memory: &Mutex<Vec<Vec<Block>>>) -> MutexGuard<'_, Vec<Vec<Block>>> {
    // What it guards is whole whatever panicked.
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

fn internal(error: argon2::password_hash::Error) -> Error {
    Error::Internal(format!("argon2: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    async fn the_right_password_is_told_from_a_wrong_one() {
        let pool = HashingPool::new(CHEAP).expect("good settings");
        let hash = pool.hash(password("correct horse")).await.expect("hashed");
        let verdict = async |text, hash| pool.verify(password(text), hash).await.expect("verified");
        assert_eq!(verdict("correct horse", Some(hash.clone())).await, Verdict::Right);
        assert_eq!(verdict("wrong horse", Some(hash)).await, Verdict::Wrong);
        assert_eq!(verdict("nobody's", None).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_outdated() {
        let old = HashingPool::new(CHEAP).expect("good settings");
        let new = HashingPool::new(HashingSettings { passes: 2, ..CHEAP }).expect("good settings");
        let hash = old.hash(password("correct horse")).await.expect("hashed");
        let verdict = new
            .verify(password("correct horse"), Some(hash))
            .await
            .expect("verified");
        assert_eq!(verdict, Verdict::RightButOutdated);
    }

    #[tokio::test]
    async fn more_than_the_queue_holds_is_refused() {
        let pool = HashingPool::new(CHEAP).expect("good settings");
        let place = pool.reserve().expect("a place");
        let running = pool.enter(place).await.expect("a worker");
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.hash(password("correct horse")).await }
        });
        while pool.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(
            pool.hash(password("correct horse")).await,
            Err(Error::HashingQueueFull)
        ));
        drop(running);
        waiting.await.expect("joined").expect("hashed once there was a worker");
    }
}
