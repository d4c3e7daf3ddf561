//! Recomputes the keys that an older version of this program stored.
//!
//! An older version folded addresses differently. Its rows are recognised by `key_time`, which it does not write. That
//! includes rows that it writes while it serves beside this version during an upgrade.
//!
//! Two addresses that were different for the older version may now have the same key. Then the oldest account gets the
//! key. The users of the others log in with their login, and are marked for administrators. Each start tries them
//! again, as the key may be free by then.

use shared::{
    clock::{Clock, Timestamp},
    db::{self, Conn, Db, write_tx},
    ids::UserId,
};

use super::{Act, Error, audit::AuditEvent, names::identifier_key, profile::search_folded};
use crate::store::{self, StoredKeys};

/// Users per transaction.
const BATCH: i64 = 200;
/// Most user ids that one log line names.
const LOGGED: i64 = 20;
/// Attempts for a user whose row or address is being changed at the same time.
const TRIES: usize = 5;

/// Recomputes the keys of users that are stale. The caller holds the migration lock.
///
/// Fails only if the database is out of reach. A user who cannot be brought up to date is logged, and tried again at the next
/// start.
pub(crate) async fn recompute_stale_keys(db: &Db, clock: &Clock) -> db::Result<()> {
    let mut after = None;
    let mut users = 0;
    loop {
        let mut conn = db.read().await?;
        let batch = store::users_with_stale_keys(&mut conn, after, BATCH).await?;
        drop(conn);
        let Some(last) = batch.last() else { break };
        after = Some((last.create_time, last.id));
        users += batch.len();
        let together = recompute(db, clock, &batch).await;
        let Err(error) = together else { continue };
        pass_on_outage(error)?;
        // One by one, so that a single failing user does not hold up the others.
        for user in &batch {
            recompute_alone(db, clock, user).await?;
        }
    }
    if users > 0 {
        tracing::info!(
            users,
            "recomputed the keys of e-mail addresses that an older version had stored"
        );
    }
    let mut conn = db.read().await?;
    let (count, ids) = store::users_with_taken_email(&mut conn, LOGGED).await?;
    if count > 0 {
        let user_ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        tracing::warn!(
            count,
            user_ids = user_ids.join(" "),
            "the e-mail address of these users belongs to an older account, so they log in with their login; \
             ListUsers with email_is_taken lists them"
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
                tracing::debug!(user_id = %user.id, "the keys of a user could not be recomputed yet");
                pass_on_outage(error)?;
            }
        }
    }
    tracing::warn!(user_id = %user.id, "the keys of a user could not be recomputed; the next start tries again");
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

/// Recomputes the keys of one user. Returns false, and changes nothing, if the row has changed since it was read.
async fn recompute_one(tx: &mut Conn, user: &StoredKeys, now: Timestamp) -> db::Result<bool> {
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
    let holder = store::user_by_email(tx, &key).await?;
    let Some(holder) = holder else {
        new.email_folded = key;
        return store::user_set_keys(tx, user, &new).await;
    };
    if (holder.create_time, holder.id) < (user.create_time, user.id) {
        new.email_is_taken = true;
        let is_unchanged = store::user_set_keys(tx, user, &new).await?;
        if is_unchanged && !user.email_is_taken {
            record(tx, user.id, holder.id, now).await?;
        }
        return Ok(is_unchanged);
    }
    // A younger account has the key that belongs to this older one, so it has to give the key up.
    let Some(is_new) = store::user_take_email_key(tx, holder.id, &key).await? else {
        return Ok(false);
    };
    new.email_folded = key;
    if !store::user_set_keys(tx, user, &new).await? {
        return Err(db::Error::Internal(
            "the row changed while its address was being freed".into(),
        ));
    }
    if is_new {
        record(tx, holder.id, user.id, now).await?;
    }
    Ok(true)
}

/// Records in the audit log that the address of a user belongs to an older account.
async fn record(tx: &mut Conn, user: UserId, owner: UserId, now: Timestamp) -> db::Result<()> {
    AuditEvent::new("user.email_taken")
        .user(user)
        .detail("owner_user_id", owner)
        .record(tx, &Act::itself(), now)
        .await
}
