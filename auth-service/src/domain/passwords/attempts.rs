//! Limits how often passwords can be guessed.
//!
//! First, each address may make only so many calls ([`AddressLimit`]). A call from a known device
//! counts for the device instead. Then failures are counted in the database, so that they survive
//! restarts and apply to all replicas. An attempt is counted as a failure before the password is
//! checked, so that many guesses at once get no further than guesses one after the other. A failure
//! counts for the account and the address. If the call comes from a device that the user has logged
//! in from, it counts only for the device. So guesses at a user's password do not lock the user out
//! of their own device. Some failures are free. Each further one doubles the wait before the next
//! attempt is admitted.
//!
//! The counters are kept for an *identifier*, not for a user. The login and the address of one user
//! count separately, and so does an identifier that no user has. A common counter would reveal that
//! both exist. A key is an HMAC, so the table contains no names.
//!
//! Times in the table are the database's ([`DatabaseTime`]). So a wait does not become longer if
//! the clocks of replicas differ or a clock is set wrong. A row blocks only while its failures
//! require a wait, and never for longer than that wait.
//!
//! OWASP Authentication Cheat Sheet, "Login Throttling"; NIST SP 800-63B, section 3.2.2.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base::{
    clock::{Clock, Timestamp},
    ids::UserId,
    rate::{AddressLimit, KeyedLimit, RateRule},
};
use db::{Conn, DatabaseTime, Db, write_tx};

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        keys::secret::{Purpose, ServerSecrets},
        request_context::RequestContext,
    },
    ids::DeviceId,
    model::User,
    store::{self, Failure, Throttle, UNBLOCKED},
};

/// How long failures count after the latest one.
const MEMORY: Duration = Duration::from_hours(24);
/// Longest wait for an address. It is short, because other users may share the address.
const MAX_DELAY_OF_ADDRESS: Duration = Duration::from_mins(1);
/// Number of rows that a purge deletes in one transaction.
const PURGE_BATCH: i64 = 500;
/// Name of the counter of guesses at a second factor, and beginning of the other names of such
/// counters.
const SECOND_FACTOR: &str = "second_factor";
/// Name of the counter of such guesses by the user who is signed in.
const CURRENT_SECOND_FACTOR: &str = "second_factor_current";
/// Name of the counter of such guesses on a known device.
const DEVICE_SECOND_FACTOR: &str = "second_factor_device";
/// How far replicas may differ in their estimates of the database's time.
const ALLOWANCE: Duration = Duration::from_secs(1);

/// Limits on attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptRules {
    /// Rate of logins and other proofs of a secret, for each address or known device.
    pub(crate) logins: RateRule,
    /// Rate of registrations, for each address.
    pub(crate) registrations: RateRule,
    /// Rate of registrations of guests, for each address.
    pub(crate) guests: RateRule,
    /// Number of failures of an account or a device after which the next attempt must wait.
    pub(crate) free_failures: i64,
    /// Longest wait for an account or a device.
    pub(crate) max_delay: Duration,
    /// Number of failures of an address after which the next attempt must wait.
    pub(crate) free_failures_of_address: i64,
}

/// Counts attempts, and refuses those that have to wait.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    db: Db,
    clock: Clock,
    time: Arc<DatabaseTime>,
    /// Whether this process has already looked for rows from the future, as it does at its start.
    has_checked_future_rows: Arc<AtomicBool>,
    key: Key,
    rules: AttemptRules,
    logins: AddressLimit,
    registrations: AddressLimit,
    guests: AddressLimit,
    /// Limit of logins with a device token, by device.
    device_logins: KeyedLimit<DeviceId>,
}

/// A guess at a password. The variant says what a failure is counted for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Guess<'a> {
    /// A guess for the login or address with this key, whether or not a user has it.
    Identifier(&'a str),
    /// A guess for the user who has logged in from this device before.
    Device(DeviceId),
    /// A guess for the user who is signed in.
    Current(UserId),
    /// A guess at the second factor of a user who logs in, on a device that the user has logged in
    /// from before if there is one. The password was right, which must not clear this counter.
    SecondFactor(UserId, Option<DeviceId>),
    /// A guess at the second factor of the user who is signed in. Whoever knows only the password
    /// cannot make that user wait.
    CurrentSecondFactor(UserId),
}

/// An attempt that need not wait, before it is counted.
#[derive(Debug)]
pub(in crate::domain) struct Uncounted {
    counters: Vec<Counter>,
    /// Rows of the counters as they were read when the attempt was let through.
    rows: Vec<Throttle>,
}

/// An attempt that was admitted and counted as a failure. [`Attempts::succeeded`] takes the failure
/// back.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Counters, sorted by key, which is the order in which rows are locked.
    counters: Vec<Counter>,
}

#[derive(Debug)]
struct Counter {
    key: Vec<u8>,
    scope: Scope,
    /// How long the next attempt has to wait.
    delay: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Account,
    Device,
    Address,
}

impl Attempts {
    pub(crate) fn new(db: Db, clock: Clock, secrets: &ServerSecrets, rules: AttemptRules) -> Self {
        // Only the current secret is used. Counters made with an older one are lost.
        let key = Key::new(HMAC_SHA256, &secrets.derive(Purpose::Attempts)[0]);
        Self {
            time: Arc::new(DatabaseTime::new(db.clone(), clock.clone())),
            clock,
            has_checked_future_rows: Arc::default(),
            db,
            key,
            rules,
            logins: AddressLimit::new(rules.logins),
            registrations: AddressLimit::new(rules.registrations),
            guests: AddressLimit::new(rules.guests),
            device_logins: KeyedLimit::new(rules.logins),
        }
    }

    /// Admits a login, or another proof of a secret, within the limit of its address.
    pub(crate) fn admit_login(&self, context: &RequestContext) -> Result<(), Error> {
        self.logins.admit(context.origin.bucket).map_err(Error::TooManyAttempts)
    }

    /// Returns whether a login is admitted within the limit of the device whose token it carries.
    /// Its address does not count then. So a flood from the user's network does not lock the user
    /// out, nor does a flood with the token of another of the user's devices.
    pub(in crate::domain) fn admits_device_login(&self, device: DeviceId) -> bool {
        self.device_logins.admit(&device).is_ok()
    }

    /// Admits a registration within the limit of its address.
    pub(crate) fn admit_registration(&self, context: &RequestContext) -> Result<(), Error> {
        self.registrations
            .admit(context.origin.bucket)
            .map_err(Error::TooManyAttempts)
    }

    /// Admits a registration of a guest within the limit of its address.
    pub(in crate::domain) fn admit_guest(&self, context: &RequestContext) -> Result<(), Error> {
        self.guests.admit(context.origin.bucket).map_err(Error::TooManyAttempts)
    }

    /// Refuses a guess that has to wait, and says for how long. Does not count the guess.
    pub(in crate::domain) async fn check_wait(
        &self,
        context: &RequestContext,
        guess: Guess<'_>,
    ) -> Result<Uncounted, Error> {
        let counters = self.counters(context, guess);
        let keys: Vec<Vec<u8>> = counters.iter().map(|counter| counter.key.clone()).collect();
        self.time.refresh().await?;
        self.end_blocks_of_the_future().await?;
        // A read connection, so that guesses that have to wait do not compete for writing.
        let mut conn = self.db.read().await?;
        let rows = store::throttles_by_keys(&mut conn, &keys).await?;
        drop(conn);
        self.refuse_blocked(&counters, &rows, self.time.now())?;
        Ok(Uncounted { counters, rows })
    }

    /// Admits a guess and counts it as a failure, or says how long to wait. A guess that has to
    /// wait is not counted.
    pub(in crate::domain) async fn count(&self, guess: Uncounted) -> Result<Attempt, Error> {
        let Uncounted { mut counters, rows } = guess;
        if self.count_freely(&counters, &rows).await? {
            return Ok(Attempt { counters });
        }
        let keys: Vec<Vec<u8>> = counters.iter().map(|counter| counter.key.clone()).collect();
        write_tx!(self.db, |tx| {
            let mut rows = Vec::with_capacity(keys.len());
            for key in &keys {
                rows.push(store::throttle_lock(tx, key, self.time.now()).await?);
            }
            let now = self.time.now();
            self.refuse_blocked(&counters, &rows, now)?;
            for (counter, row) in counters.iter_mut().zip(rows) {
                let failures = next_failure(Some(&row), now);
                counter.delay = self.delay(counter.scope, failures);
                let blocked_until = match counter.delay {
                    Duration::ZERO => UNBLOCKED,
                    delay => now.plus(delay),
                };
                let counted = Throttle {
                    failures,
                    blocked_until,
                    expire_time: now.plus(MEMORY),
                    ..row
                };
                store::throttle_update(tx, &counted).await?;
            }
            Ok(Attempt { counters })
        })
    }

    /// Ends all blocks if the database's clock was set back, or if at the start there are rows
    /// written by a clock that was ahead. By the present time, they would last longer than their
    /// delay. The counts remain.
    async fn end_blocks_of_the_future(&self) -> Result<(), Error> {
        let (went_back, has_checked_future_rows) = (
            self.time.take_went_back(),
            self.has_checked_future_rows.swap(true, Ordering::SeqCst),
        );
        if has_checked_future_rows && !went_back {
            return Ok(());
        }
        // If this call fails or is cancelled, the next one tries again.
        let again = scopeguard::guard((), |()| {
            self.has_checked_future_rows.store(false, Ordering::SeqCst);
            if went_back {
                self.time.put_went_back();
            }
        });
        self.try_end_blocks_of_the_future(went_back).await?;
        scopeguard::ScopeGuard::into_inner(again);
        Ok(())
    }

    async fn try_end_blocks_of_the_future(&self, went_back: bool) -> Result<(), Error> {
        let now = self.time.now();
        // Rows written until now expire by this time at the latest.
        let latest = now.plus(MEMORY);
        let mut conn = self.db.read().await?;
        if !went_back && !store::throttles_outlast(&mut conn, latest.plus(ALLOWANCE)).await? {
            return Ok(());
        }
        drop(conn);
        tracing::warn!("the database server's clock was set back, so current waits after failed logins are cancelled");
        let mut after = Vec::new();
        loop {
            let mut conn = self.db.read().await?;
            let keys = store::throttles_beyond(&mut conn, now, latest, &after, PURGE_BATCH).await?;
            drop(conn);
            let Some(last) = keys.last() else { return Ok(()) };
            after.clone_from(last);
            let unblocked: Result<(), Error> = write_tx!(self.db, |tx| {
                for key in &keys {
                    store::throttle_unblock(tx, key, latest).await?;
                }
                Ok(())
            });
            unblocked?;
            tokio::task::yield_now().await;
        }
    }

    /// Counts an attempt in one statement, if a failure requires no wait. Returns false if the
    /// attempt was not counted, because by these rows a failure requires a wait, or because other
    /// attempts have been counted since the rows were read.
    async fn count_freely(&self, counters: &[Counter], rows: &[Throttle]) -> Result<bool, Error> {
        let mut conn = self.db.write().await?;
        // The time is read only now, because other writers may have come first.
        let now = self.time.now();
        let mut failures = Vec::with_capacity(counters.len());
        for counter in counters {
            let row = rows.iter().find(|row| row.key == counter.key);
            let (free, _) = self.limits(counter.scope);
            if next_failure(row, now) >= free {
                return Ok(false);
            }
            failures.push(Failure {
                key: &counter.key,
                free,
            });
        }
        let counted = store::throttles_count(&mut conn, &failures, now, now.plus(MEMORY)).await?;
        if counted.len() == counters.len() {
            return Ok(true);
        }
        for key in &counted {
            store::throttle_take_back(&mut conn, key).await?;
        }
        Ok(false)
    }

    /// Records that the password was right. Clears the counter of the account or the device, and
    /// takes back the failure of the address. Runs in the transaction for which the password was
    /// needed.
    pub(in crate::domain) async fn succeeded(&self, tx: &mut Conn, attempt: &Attempt) -> db::Result<()> {
        let is_address = |counter: &&Counter| counter.scope == Scope::Address;
        let (address, own): (Vec<_>, Vec<_>) = attempt.counters.iter().partition(is_address);
        if let ([address], [own]) = (&address[..], &own[..]) {
            return store::throttles_record_success(tx, &address.key, &own.key).await;
        }
        for counter in own {
            store::throttle_delete(tx, &counter.key).await?;
        }
        Ok(())
    }

    /// Returns what [`succeeded`](Self::succeeded) changes, for a transaction of several logins:
    /// the number of failures to take back under each key, or zero if the key is cleared.
    pub(in crate::domain) fn success(attempt: &Attempt) -> BTreeMap<Vec<u8>, i64> {
        let taken_back = |counter: &Counter| i64::from(counter.scope == Scope::Address);
        let counters = attempt.counters.iter();
        counters
            .map(|counter| (counter.key.clone(), taken_back(counter)))
            .collect()
    }

    /// Does the same as [`succeeded`](Self::succeeded) in its own transaction, for a call that
    /// fails although the password was right, or whose own transaction comes later.
    pub(in crate::domain) async fn settle(&self, attempt: &Attempt) -> Result<(), Error> {
        write_tx!(self.db, |tx| Ok(self.succeeded(tx, attempt).await?))
    }

    /// Clears the counters for the identifiers of a user, for their devices, and for checks of
    /// their current password and of their second factor.
    pub(in crate::domain) async fn forget(&self, tx: &mut Conn, user: &User) -> db::Result<()> {
        let keys = self.keys_of_user(tx, user).await?;
        Self::clear(tx, keys).await
    }

    /// Clears the same counters, except those of the second factor. A new password must give nobody
    /// more guesses at it.
    pub(in crate::domain) async fn forget_passwords(&self, tx: &mut Conn, user: &User) -> db::Result<()> {
        let mut keys = self.keys_of_user(tx, user).await?;
        keys.retain(|(what, _)| !what.starts_with(SECOND_FACTOR));
        Self::clear(tx, keys).await
    }

    async fn clear(tx: &mut Conn, mut keys: Vec<(&'static str, Vec<u8>)>) -> db::Result<()> {
        keys.sort_unstable_by(|(_, key), (_, other)| key.cmp(other));
        for (_, key) in &keys {
            store::throttle_delete(tx, key).await?;
        }
        Ok(())
    }

    /// Returns the failures that are counted for a user, with what they are counted for.
    pub(in crate::domain) async fn counted(
        &self,
        conn: &mut Conn,
        user: &User,
    ) -> db::Result<Vec<(&'static str, Throttle)>> {
        let mut counted = Vec::new();
        for (what, key) in self.keys_of_user(conn, user).await? {
            let rows = store::throttles_by_keys(conn, &[key]).await?;
            counted.extend(rows.into_iter().map(|row| (what, row)));
        }
        Ok(counted)
    }

    /// Returns the keys of the counters of a user, each with what its failures are counted for.
    async fn keys_of_user(&self, conn: &mut Conn, user: &User) -> db::Result<Vec<(&'static str, Vec<u8>)>> {
        let login = crate::domain::users::names::identifier_key(&user.login);
        let email = crate::domain::users::names::identifier_key(&user.email);
        let mut keys = vec![
            ("login", self.key_of("identifier", login.as_bytes())),
            ("current_password", self.key_of("current", user.id.as_uuid().as_bytes())),
        ];
        for name in [SECOND_FACTOR, CURRENT_SECOND_FACTOR] {
            keys.push((name, self.key_of(name, user.id.as_uuid().as_bytes())));
        }
        // Failures with an address that belongs to another account count for that account.
        if !user.email_is_taken {
            keys.push(("email", self.key_of("identifier", email.as_bytes())));
        }
        let devices = store::devices_of_user(conn, user.id).await?;
        for name in ["device", DEVICE_SECOND_FACTOR] {
            let key = |device: &DeviceId| (name, self.key_of(name, device.as_uuid().as_bytes()));
            keys.extend(devices.iter().map(key));
        }
        Ok(keys)
    }

    /// Makes other password resets for this identifier wait until the transaction ends. Without
    /// this, only those for a user who exists would wait, for the user's row.
    pub(in crate::domain) async fn lock_reset(&self, tx: &mut Conn, identifier: &str) -> db::Result<()> {
        let key = self.key_of("reset", identifier.as_bytes());
        store::throttle_lock(tx, &key, self.time.now()).await.map(drop)
    }

    /// Deletes expired counters, batch by batch.
    pub(crate) async fn purge(&self) -> Result<(), Error> {
        // Each scan starts where the last one ended, and does not pass over its deleted entries.
        let mut from = Timestamp::EPOCH;
        loop {
            let Some(settled) = self.db.settled(&self.clock).await? else {
                return Ok(());
            };
            let now = settled.past();
            let mut conn = self.db.read().await?;
            let expired = store::throttles_expired(&mut conn, from, now, PURGE_BATCH).await?;
            drop(conn);
            let Some((_, last)) = expired.last() else {
                return Ok(());
            };
            from = *last;
            // Rows are locked in the order of their keys, as everywhere.
            let keys: BTreeSet<Vec<u8>> = expired.into_iter().map(|(key, _)| key).collect();
            let deleted: Result<(), Error> = write_tx!(self.db, |tx| {
                for key in &keys {
                    store::throttle_delete_expired(tx, key, now).await?;
                }
                Ok(())
            });
            deleted?;
            // With a fast disk, the queries never suspend this task. Yielding lets others run
            // between batches.
            tokio::task::yield_now().await;
        }
    }

    fn counters(&self, context: &RequestContext, guess: Guess<'_>) -> Vec<Counter> {
        let (name, value, scope) = match guess {
            Guess::Identifier(identifier) => ("identifier", identifier.as_bytes(), Scope::Account),
            Guess::Device(ref device) => ("device", device.as_uuid().as_bytes().as_slice(), Scope::Device),
            Guess::Current(ref user) => ("current", user.as_uuid().as_bytes().as_slice(), Scope::Account),
            Guess::SecondFactor(ref user, None) => {
                (SECOND_FACTOR, user.as_uuid().as_bytes().as_slice(), Scope::Account)
            }
            Guess::SecondFactor(_, Some(ref device)) => {
                let device = device.as_uuid().as_bytes().as_slice();
                (DEVICE_SECOND_FACTOR, device, Scope::Device)
            }
            Guess::CurrentSecondFactor(ref user) => {
                let user = user.as_uuid().as_bytes().as_slice();
                (CURRENT_SECOND_FACTOR, user, Scope::Account)
            }
        };
        let mut counters = vec![Counter {
            key: self.key_of(name, value),
            scope,
            delay: Duration::ZERO,
        }];
        if let (Guess::Identifier(_), Some(bucket)) = (guess, context.origin.bucket) {
            counters.push(Counter {
                key: self.key_of("address", bucket.to_string().as_bytes()),
                scope: Scope::Address,
                delay: Duration::ZERO,
            });
        }
        counters.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        counters
    }

    fn key_of(&self, name: &str, value: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(name.as_bytes());
        context.update(b":");
        context.update(value);
        context.sign().as_ref().to_vec()
    }

    /// Returns the number of failures after which the next attempt must wait, and the longest wait.
    const fn limits(&self, scope: Scope) -> (i64, Duration) {
        match scope {
            Scope::Account | Scope::Device => (self.rules.free_failures, self.rules.max_delay),
            Scope::Address => (self.rules.free_failures_of_address, MAX_DELAY_OF_ADDRESS),
        }
    }

    fn delay(&self, scope: Scope, failures: i64) -> Duration {
        let (free, max) = self.limits(scope);
        delay(failures, free, max)
    }

    /// Refuses an attempt if one of these rows requires it to wait. The wait is never longer than
    /// the delay for the row's failures, whatever the row says.
    fn refuse_blocked(&self, counters: &[Counter], rows: &[Throttle], now: Timestamp) -> Result<(), Error> {
        let waits = rows.iter().filter(|row| now < row.expire_time).filter_map(|row| {
            let counter = counters.iter().find(|counter| counter.key == row.key)?;
            let delay = self.delay(counter.scope, row.failures);
            let left = row.blocked_until.since(now);
            // A block that ends later than its delay from now was written by a clock that was
            // ahead.
            (left <= delay.saturating_add(ALLOWANCE)).then_some(left.min(delay))
        });
        match waits.max() {
            Some(wait) if !wait.is_zero() => Err(Error::TooManyAttempts(wait)),
            _ => Ok(()),
        }
    }
}

impl Attempt {
    /// Adds the waits that a failure causes to its audit event.
    pub(in crate::domain) fn note(&self, event: AuditEvent) -> AuditEvent {
        let blocked = self.counters.iter().filter(|counter| !counter.delay.is_zero());
        blocked.fold(event, |event, counter| {
            let detail = match counter.scope {
                Scope::Account => "account_blocked_seconds",
                Scope::Device => "device_blocked_seconds",
                Scope::Address => "address_blocked_seconds",
            };
            event.detail(detail, counter.delay.as_secs())
        })
    }
}

/// Returns the number of the next failure in this row.
fn next_failure(row: Option<&Throttle>, now: Timestamp) -> i64 {
    let counted = row.filter(|row| now < row.expire_time);
    counted.map_or(0, |row| row.failures) + 1
}

/// Returns how long the next attempt must wait after this many failures.
fn delay(failures: i64, free: i64, max: Duration) -> Duration {
    if failures < free {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(failures - free).unwrap_or(u32::MAX);
    let seconds = 2_u64.checked_pow(doublings);
    seconds.map_or(max, |seconds| Duration::from_secs(seconds).min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_once_the_free_failures_are_used_up() {
        let max = Duration::from_mins(15);
        for (failures, seconds) in [
            (1, 0),
            (9, 0),
            (10, 1),
            (11, 2),
            (12, 4),
            (19, 512),
            (20, 900),
            (73, 900),
            (74, 900),
            (75, 900),
            (i64::MAX, 900),
        ] {
            assert_eq!(delay(failures, 10, max).as_secs(), seconds, "{failures}");
        }
    }
}
