//! The signing keys in use. A key is first next, then active, then retired, and then deleted.
//!
//! A key is published before it signs, so that every verifier knows it by then. After it has
//! signed, it stays published until its last token has expired. So a rotation invalidates no token.
//! A compromised key can be withdrawn at once.
//!
//! A wrong clock alone neither activates nor deletes a key. A retired key is deleted only once this
//! process itself has seen it retired for as long as its tokens may live. The next key signs only
//! once this process has seen it published for long enough.

use std::{fmt, sync::Arc, time::Duration};

use access::token::{Jwk, Jwks, LEEWAY};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base::clock::{Clock, Settled, Timestamp};
use db::{Conn, Db, write_tx};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        feed::{self, CHANNEL, Change},
        keys::{
            schedule::{Due, KeySchedule, KeyTime, Sightings},
            secret::ServerSecrets,
            signing_key::{KeyRingError, SigningKey, decrypt, encrypt},
        },
        rbac::authority,
        request_context::RequestContext,
    },
    model::{FeedHead, KeyState, SigningKeyRecord},
    store,
};

/// Interval at which the keys are read again, so that changes made elsewhere are noticed even if
/// the notification was lost.
const POLL: Duration = Duration::from_secs(5);

/// The keys in use. Clones share them.
#[derive(Clone)]
pub(crate) struct KeyRing {
    keys: watch::Sender<Arc<Keys>>,
    reloading: Arc<tokio::sync::Mutex<()>>,
    sightings: Arc<Mutex<Sightings>>,
    secrets: ServerSecrets,
    schedule: KeySchedule,
    db: Db,
    clock: Clock,
}

/// A snapshot of the keys.
struct Keys {
    rows: Vec<SigningKeyRecord>,
    active: Arc<SigningKey>,
    jwks: Jwks,
}

impl KeyRing {
    /// Reads the keys, and creates the first one if there is none. The caller holds the migration
    /// lock, so that only one of several replicas creates it.
    pub(crate) async fn open(
        tx: &mut Conn,
        (db, clock): (Db, Clock),
        secrets: &ServerSecrets,
        schedule: KeySchedule,
    ) -> Result<Self, KeyRingError> {
        let mut rows = store::signing_keys_list(tx).await?;
        if rows.is_empty() {
            let now = clock.now();
            let row = generate(secrets, KeyState::Active, now, now)?;
            store::signing_key_insert(tx, &row).await?;
            tracing::info!(kid = row.kid, "created the first signing key");
            rows.push(row);
        }
        for row in &rows {
            let (private, is_current) = decrypt(secrets, row)?;
            if !is_current {
                // Encrypted again, so that the previous secret can be removed once this has run.
                let encrypted = encrypt(secrets, &row.kid, &private)?;
                store::signing_key_reencrypt(tx, &row.kid, &encrypted).await?;
                tracing::info!(kid = row.kid, "encrypted a signing key with the current server secret");
            }
        }
        Ok(Self {
            keys: watch::Sender::new(Arc::new(Keys::of(rows, secrets)?)),
            reloading: Arc::default(),
            sightings: Arc::default(),
            secrets: secrets.clone(),
            schedule,
            db,
            clock,
        })
    }

    /// Returns the key that signs.
    pub(in crate::domain) fn active(&self) -> Arc<SigningKey> {
        Arc::clone(&self.keys.borrow().active)
    }

    /// Returns the public keys of all tokens that may still be valid, and of the next key.
    pub(crate) fn jwks(&self) -> Jwks {
        self.keys.borrow().jwks.clone()
    }

    /// Returns how long verifiers and caches may keep the public keys without asking again.
    pub(crate) fn cache_time(&self) -> Duration {
        self.schedule.cache_time()
    }

    /// Lists all keys, newest first.
    pub(crate) async fn list(&self) -> Result<Vec<SigningKeyRecord>, Error> {
        let mut rows = store::signing_keys_list(&mut self.db.read().await?).await?;
        rows.reverse();
        Ok(rows)
    }

    /// Publishes the next key, unless one is published already. Returns the next key.
    pub(crate) async fn rotate(&self, context: &RequestContext) -> Result<SigningKeyRecord, Error> {
        let row = write_tx!(self.db, |tx| {
            store::feed_head_lock(tx).await?;
            authority::ensure_still_good(tx, context).await?;
            let rows = store::signing_keys_list(tx).await?;
            if let Some(next) = rows.into_iter().find(|row| row.state == KeyState::Next) {
                return Ok(next);
            }
            let now = self.clock.now();
            let row = self.publish_next(tx, context, now).await?;
            self.announce(tx, now).await?;
            Ok(row)
        });
        self.reload().await?;
        row
    }

    /// Withdraws a key at once. Returns the key that signs from now on.
    pub(crate) async fn retire(&self, context: &RequestContext, kid: &str) -> Result<SigningKeyRecord, Error> {
        let active: Result<_, Error> = write_tx!(self.db, |tx| {
            store::feed_head_lock(tx).await?;
            authority::ensure_still_good(tx, context).await?;
            let rows = store::signing_keys_list(tx).await?;
            let row = rows
                .iter()
                .find(|row| row.kid == kid)
                .ok_or(Error::SigningKeyNotFound)?;
            self.withdraw(tx, context, row, &rows).await?;
            let rows = store::signing_keys_list(tx).await?;
            let active = rows.into_iter().find(|row| row.state == KeyState::Active);
            active.ok_or_else(|| Error::Internal("no key signs".to_owned()))
        });
        self.reload().await?;
        active
    }

    /// Withdraws a key again, if the database has lost the withdrawal and contains the key again.
    pub(crate) async fn withdraw_again(&self, kid: &str) -> Result<(), Error> {
        let context = RequestContext::itself();
        let withdrawn: Result<(), Error> = write_tx!(self.db, |tx| {
            store::feed_head_lock(tx).await?;
            let rows = store::signing_keys_list(tx).await?;
            match rows.iter().find(|row| row.kid == kid) {
                Some(row) => self.withdraw(tx, &context, row, &rows).await,
                None => Ok(()),
            }
        });
        withdrawn?;
        self.reload().await
    }

    /// Deletes a key. If it was active, activates another one. This is the last step of the
    /// transaction, which has locked the head of the feed.
    async fn withdraw(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        row: &SigningKeyRecord,
        rows: &[SigningKeyRecord],
    ) -> Result<(), Error> {
        let now = self.clock.now();
        store::signing_key_delete(tx, &row.kid).await?;
        AuditEvent::new("signing_key.retire")
            .target("signing_key", &row.kid)
            .record(tx, context, now)
            .await?;
        if row.state == KeyState::Active {
            if let Some(next) = rows.iter().find(|row| row.state == KeyState::Next) {
                store::signing_key_activate(tx, &next.kid, now).await?;
            } else {
                let row = generate(&self.secrets, KeyState::Active, now, now).map_err(internal)?;
                store::signing_key_insert(tx, &row).await?;
            }
        }
        self.announce(tx, now).await
    }

    /// Takes the steps that are due.
    pub(crate) async fn advance(&self) -> Result<(), Error> {
        let mut conn = self.db.read().await?;
        let rows = store::signing_keys_list(&mut conn).await?;
        let head = store::feed_head(&mut conn).await?.ok_or(db::Error::NotFound)?;
        let settled = conn.settled(&self.clock).await?;
        drop(conn);
        if self.due(&rows, settled, &head).is_empty() {
            return Ok(());
        }
        let context = RequestContext::itself();
        let done: Result<(), Error> = write_tx!(self.db, |tx| {
            let head = store::feed_head_lock(tx).await?;
            let rows = store::signing_keys_list(tx).await?;
            let now = self.clock.now();
            // Checked again, because another replica may have acted before this one got the lock.
            let due = self.due(&rows, settled, &head);
            for due in &due {
                match due {
                    Due::Publish => {
                        self.publish_next(tx, &context, now).await?;
                    }
                    Due::Activate => {
                        let longest = Duration::from_secs(u64::try_from(head.max_access_token_seconds).unwrap_or(0));
                        // Another replica may sign with the old key until it has noticed the
                        // change.
                        let dead = now.plus(longest + LEEWAY + POLL * 2);
                        activate_next(tx, &context, &rows, now, dead).await?;
                    }
                    Due::Expire(kid) => {
                        store::signing_key_delete(tx, kid).await?;
                        AuditEvent::new("signing_key.expire")
                            .target("signing_key", kid)
                            .record(tx, &context, now)
                            .await?;
                    }
                }
            }
            if !due.is_empty() {
                self.announce(tx, now).await?;
            }
            Ok(())
        });
        done?;
        self.reload().await
    }

    /// Keeps the keys in use the same as those in the database, forever.
    pub(crate) async fn follow(&self) {
        let mut news = self.db.subscribe(CHANNEL);
        loop {
            news.notified_within(POLL).await;
            if let Err(error) = self.reload().await {
                tracing::warn!(%error, "cannot read the signing keys; continuing with the current ones");
            }
        }
    }

    fn due(&self, rows: &[SigningKeyRecord], settled: Option<Settled>, head: &FeedHead) -> Vec<Due> {
        let mut sightings = self.sightings.lock();
        let monotonic = self.clock.monotonic();
        sightings.note(rows, monotonic);
        let time = KeyTime {
            settled,
            monotonic,
            sightings: &sightings,
            // Another replica may sign with a retired key until it has noticed the change.
            kept: feed::revocation_life(head) + POLL * 2,
        };
        self.schedule.due(rows, time)
    }

    async fn reload(&self) -> Result<(), Error> {
        // Reloads run one after the other, so that an older read never replaces a newer one.
        let _turn = self.reloading.lock().await;
        let rows = store::signing_keys_list(&mut self.db.read().await?).await?;
        let sightings = || self.sightings.lock();
        sightings().note(&rows, self.clock.monotonic());
        let is_new = |rows: &[SigningKeyRecord]| {
            let used = &self.keys.borrow().rows;
            used.len() != rows.len()
                || used
                    .iter()
                    .zip(rows)
                    .any(|(used, row)| used.kid != row.kid || used.state != row.state)
        };
        if is_new(&rows) {
            let keys = Keys::of(rows, &self.secrets).map_err(internal)?;
            tracing::info!(
                active = keys.active.kid(),
                published = keys.rows.len(),
                "the signing keys have changed"
            );
            self.keys.send_replace(Arc::new(keys));
        }
        Ok(())
    }

    async fn publish_next(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        now: Timestamp,
    ) -> Result<SigningKeyRecord, Error> {
        let activate_time = now.plus(self.schedule.prepublish);
        let row = generate(&self.secrets, KeyState::Next, now, activate_time).map_err(internal)?;
        store::signing_key_insert(tx, &row).await?;
        AuditEvent::new("signing_key.rotate")
            .target("signing_key", &row.kid)
            .record(tx, context, now)
            .await?;
        Ok(row)
    }

    /// Publishes the current keys for all verifiers. This is the last step of the transaction.
    async fn announce(&self, tx: &mut Conn, now: Timestamp) -> Result<(), Error> {
        let rows = store::signing_keys_list(tx).await?;
        let keys = jwks_of(&rows).map_err(internal)?;
        feed::publish(tx, vec![Change::KeysChanged(keys)], now).await?;
        Ok(())
    }
}

impl Keys {
    fn of(rows: Vec<SigningKeyRecord>, secrets: &ServerSecrets) -> Result<Self, KeyRingError> {
        let active = rows.iter().find(|row| row.state == KeyState::Active);
        let active = active.ok_or(KeyRingError::NoneActive)?;
        let (private, _) = decrypt(secrets, active)?;
        Ok(Self {
            active: Arc::new(SigningKey::new(&active.kid, &private)?),
            jwks: jwks_of(&rows)?,
            rows,
        })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("active", &self.keys.borrow().active.kid())
            .finish_non_exhaustive()
    }
}

/// Replaces all keys by a new one that signs at once, so that no earlier token is accepted. This is
/// for a database that was restored from a backup.
pub(in crate::domain) async fn replace_all(
    tx: &mut Conn,
    secrets: &ServerSecrets,
    now: Timestamp,
) -> Result<Jwks, Error> {
    for row in store::signing_keys_list(tx).await? {
        store::signing_key_delete(tx, &row.kid).await?;
    }
    let row = generate(secrets, KeyState::Active, now, now).map_err(internal)?;
    store::signing_key_insert(tx, &row).await?;
    jwks_of(std::slice::from_ref(&row)).map_err(internal)
}

async fn activate_next(
    tx: &mut Conn,
    context: &RequestContext,
    rows: &[SigningKeyRecord],
    now: Timestamp,
    dead: Timestamp,
) -> Result<(), Error> {
    for row in rows.iter().filter(|row| row.state == KeyState::Active) {
        store::signing_key_retire(tx, &row.kid, now, dead).await?;
    }
    for row in rows.iter().filter(|row| row.state == KeyState::Next) {
        // If the clock is past the planned time, the planned time is stored, since the next
        // rotation is counted from it.
        store::signing_key_activate(tx, &row.kid, now.min(row.activate_time)).await?;
        AuditEvent::new("signing_key.activate")
            .target("signing_key", &row.kid)
            .record(tx, context, now)
            .await?;
    }
    Ok(())
}

fn generate(
    secrets: &ServerSecrets,
    state: KeyState,
    now: Timestamp,
    activate_time: Timestamp,
) -> Result<SigningKeyRecord, KeyRingError> {
    let pair = Ed25519KeyPair::generate().map_err(|_| KeyRingError::Crypto)?;
    let pkcs8 = pair.to_pkcs8().map_err(|_| KeyRingError::Crypto)?;
    let public = pair.public_key().as_ref();
    let kid = Jwk::from_public_key(public.try_into().map_err(|_| KeyRingError::Crypto)?)?
        .kid()
        .to_owned();
    Ok(SigningKeyRecord {
        state,
        public_key: public.to_vec(),
        encrypted_private_key: encrypt(secrets, &kid, pkcs8.as_ref())?,
        create_time: now,
        activate_time,
        retire_time: None,
        expire_time: None,
        kid,
    })
}

fn jwks_of(rows: &[SigningKeyRecord]) -> Result<Jwks, KeyRingError> {
    let keys = rows.iter().map(|row| {
        let public: &[u8; 32] = row.public_key.as_slice().try_into().map_err(|_| KeyRingError::Crypto)?;
        Ok(Jwk::from_public_key(public)?)
    });
    Ok(Jwks::new(keys.collect::<Result<Vec<_>, KeyRingError>>()?)?)
}

fn internal(error: KeyRingError) -> Error {
    match error {
        KeyRingError::Database(error) => Error::Database(error),
        error => Error::Internal(error.to_string()),
    }
}
