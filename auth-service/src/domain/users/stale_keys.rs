//! Recomputes the keys that an older version of this program stored.
//!
//! An older version folded addresses in another way. Its rows are recognised by `key_time`, which
//! it does not write, even if it serves beside this version during an upgrade. Two addresses that
//! it told apart may now have the same key.
//!
//! A user who already has that key, and by right, keeps it, so that nobody can claim the address of
//! another account by a new spelling. If no user has it, the oldest of those whose keys change gets
//! it. The others keep their old key, can log in with their login, and are marked for
//! administrators. They are tried again, because the key may become free later.

use base::{
    clock::{Clock, Timestamp},
    ids::UserId,
};
use db::{Conn, Db, write_tx};

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        request_context::RequestContext,
        users::{names::identifier_key, profile::search_folded},
    },
    model::User,
    store::{self, StoredKeys},
};

/// Number of users in one transaction.
const BATCH: i64 = 200;
/// Maximum number of user ids in one log line.
const LOGGED: i64 = 20;
/// Number of attempts for a user whose row or address is being changed at the same time.
const TRIES: usize = 5;
/// Id of the lease: "stalekey" in ASCII.
const LEASE: i64 = i64::from_be_bytes(*b"stalekey");

/// How the recomputation keeps other replicas from doing the same work. It would be safe without,
/// because each update is conditional.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exclusion {
    /// The caller holds the migration lock.
    MigrationLock,
    /// The recomputation takes a lease once there is something to do.
    Lease,
}

/// Recomputes stale keys, and logs the users whose addresses are taken. The caller holds the
/// migration lock.
///
/// Fails only if the database is out of reach. A user who cannot be brought up to date is logged,
/// and tried again by [`recheck_stale_name_keys`].
pub(crate) async fn recompute_stale_name_keys(db: &Db, clock: &Clock) -> db::Result<()> {
    recompute_all(db, clock, Exclusion::MigrationLock).await?;
    log_taken(db).await
}

/// Does the same while the service runs, for rows that replicas of an older version go on writing.
/// Leaves the work to another replica that is already doing it.
pub(crate) async fn recheck_stale_name_keys(db: &Db, clock: &Clock) -> db::Result<()> {
    if recompute_all(db, clock, Exclusion::Lease).await? > 0 {
        log_taken(db).await?;
    }
    Ok(())
}

/// Returns the number of users who were due.
async fn recompute_all(db: &Db, clock: &Clock, exclusion: Exclusion) -> db::Result<usize> {
    let (mut lease, mut after, mut users) = (None, None, 0);
    loop {
        let mut conn = db.read().await?;
        let batch = store::users_with_stale_keys(&mut conn, after, BATCH).await?;
        let Some(last) = batch.last() else { break };
        after = Some((last.create_time, last.id));
        let mut due = Vec::new();
        for user in batch {
            if is_due(&mut conn, &user).await? {
                due.push(user);
            }
        }
        drop(conn);
        if due.is_empty() {
            continue;
        }
        if exclusion == Exclusion::Lease && lease.is_none() {
            lease = db.try_lease(LEASE).await?;
            if lease.is_none() {
                break;
            }
        }
        users += due.len();
        let together = recompute(db, clock, &due).await;
        let Err(error) = together else { continue };
        pass_on_outage(error)?;
        // Users are retried one by one, so that a failure of one does not affect the others.
        for user in &due {
            recompute_alone(db, clock, user).await?;
        }
    }
    if users > 0 {
        tracing::info!(
            users,
            "recomputed the keys of e-mail addresses that an older version had stored"
        );
    }
    Ok(users)
}

/// Returns whether there is something to do. A stale row is always due, and a taken address once
/// its key is free.
async fn is_due(conn: &mut Conn, user: &StoredKeys) -> db::Result<bool> {
    if user.key_time != Some(user.update_time) {
        return Ok(true);
    }
    let key = identifier_key(&user.email);
    if store::email_undo_is_of_another(conn, &key, Some(user.id)).await? {
        // Its former holder may still undo a change.
        return Ok(false);
    }
    let holder = store::user_by_email(conn, &key).await?;
    Ok(!holder.is_some_and(|holder| holder.id != user.id && has_by_right(&holder, &key)))
}

/// Returns whether the holder of a key keeps it: this version wrote it, or it is the key of the
/// holder's address.
fn has_by_right(holder: &User, key: &str) -> bool {
    let is_current = holder.key_time == Some(holder.update_time) && !holder.email_is_taken;
    is_current || identifier_key(&holder.email) == key
}

async fn log_taken(db: &Db) -> db::Result<()> {
    let mut conn = db.read().await?;
    let (count, ids) = store::users_with_taken_email(&mut conn, LOGGED).await?;
    if count > 0 {
        let user_ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        tracing::warn!(
            count,
            user_ids = user_ids.join(" "),
            "the e-mail addresses of these users now count as the same as those of other users, so they can only log \
             in with their login; ListUsers with email_is_taken lists them"
        );
    }
    Ok(())
}

async fn recompute_alone(db: &Db, clock: &Clock, user: &StoredKeys) -> db::Result<()> {
    for _ in 0..TRIES {
        match recompute(db, clock, std::slice::from_ref(user)).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                // Not logged: a PostgreSQL constraint error contains the address.
                tracing::debug!(user_id = %user.id, "could not recompute the e-mail address key of a user yet");
                pass_on_outage(error)?;
            }
        }
    }
    tracing::warn!(user_id = %user.id, "could not recompute the e-mail address key of a user; trying again later");
    Ok(())
}

fn pass_on_outage(error: Error) -> db::Result<()> {
    match error {
        Error::Database(error) if error.is_outage() => Err(error),
        _ => Ok(()),
    }
}

async fn recompute(db: &Db, clock: &Clock, users: &[StoredKeys]) -> Result<(), Error> {
    write_tx!(db, |tx| {
        for user in users {
            if recompute_one(tx, user, clock.now()).await? {
                continue;
            }
            // The row has changed since it was read.
            let Some(user) = store::user_stale_keys(tx, user.id).await? else {
                continue;
            };
            if !recompute_one(tx, &user, clock.now()).await? {
                return Err(Error::Internal("the row of a user keeps changing".to_owned()));
            }
        }
        Ok(())
    })
}

/// Recomputes the keys of one user. Returns false, and changes nothing, if the row has changed
/// since it was read.
async fn recompute_one(tx: &mut Conn, user: &StoredKeys, now: Timestamp) -> db::Result<bool> {
    if user.key_time != Some(user.update_time) {
        store::user_forget_unknown_columns(tx, user).await?;
    }
    let mut new = user.clone();
    new.email_is_taken = false;
    if user.is_service || user.delete_time.is_some() {
        return store::user_set_keys(tx, user, &new).await;
    }
    new.search_folded = search_folded(
        &user.login_folded,
        &user.email,
        [&user.first_name, &user.middle_name, &user.last_name],
    );
    let key = identifier_key(&user.email);
    if key == user.email_folded {
        return store::user_set_keys(tx, user, &new).await;
    }
    if let Some(holder) = store::user_by_email(tx, &key).await? {
        if has_by_right(&holder, &key) {
            new.email_is_taken = true;
            let is_unchanged = store::user_set_keys(tx, user, &new).await?;
            if is_unchanged && !user.email_is_taken {
                record(tx, user.id, holder.id, now).await?;
            }
            return Ok(is_unchanged);
        }
        // The holder has this key only by the old rule, for another address, and gets a new one
        // when its turn comes.
        if !store::user_release_email_key(tx, holder.id, &key).await? {
            return Ok(false);
        }
    }
    if store::email_undo_is_of_another(tx, &key, Some(user.id)).await? {
        new.email_is_taken = true;
        return store::user_set_keys(tx, user, &new).await;
    }
    new.email_folded = key;
    store::user_set_keys(tx, user, &new).await
}

/// Records in the audit log that the address of a user belongs to another account.
async fn record(tx: &mut Conn, user: UserId, owner: UserId, now: Timestamp) -> db::Result<()> {
    AuditEvent::new("user.email_taken")
        .user(user)
        .detail("owner_user_id", owner)
        .record(tx, &RequestContext::itself(), now)
        .await
}
