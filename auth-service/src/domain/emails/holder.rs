//! Addresses that pass from a user who has never verified them to the first one who does, by a code
//! or by the reset of a password.
//!
//! Both rows are locked for this, in the order of their ids. So the row of the present holder is
//! looked up and locked first if it comes first in this order.

use std::collections::BTreeSet;

use base::{clock::Timestamp, ids::UserId};
use db::Conn;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        request_context::RequestContext,
        users::{
            accounts::Accounts,
            names,
            profile::{ensure_free, search_text, taken},
        },
    },
    model::User,
    store::{self, NewEmail},
};

/// Users whose rows were locked because they had an address.
#[derive(Debug)]
pub(in crate::domain) struct LockedHolders(BTreeSet<UserId>);

impl Accounts {
    /// Locks the rows of the users who have the addresses with these keys, if they come before the
    /// row with this id in the order of locks.
    pub(in crate::domain) async fn lock_holders_first(
        &self,
        tx: &mut Conn,
        id: UserId,
        keys: &[String],
    ) -> Result<LockedHolders, Error> {
        let mut holders = BTreeSet::new();
        for key in keys {
            let holder = store::user_by_email(tx, key).await?.map(|holder| holder.id);
            holders.extend(holder.filter(|holder| *holder < id));
        }
        for holder in &holders {
            store::user_lock(tx, *holder).await?;
        }
        Ok(LockedHolders(holders))
    }

    /// Takes the address with this key, at which `user` has proved to receive mail, from another
    /// user who must give it up. Fails if another user keeps it. The row of `user` is locked.
    pub(in crate::domain) async fn claim_email(
        &self,
        tx: &mut Conn,
        user: &User,
        key: &str,
        holders: &LockedHolders,
    ) -> Result<(), Error> {
        let is_reserved = store::email_undo_is_of_another(tx, key, Some(user.id)).await?;
        let holder = self.lock_holder(tx, user, key, holders).await?;
        if let Some(holder) = holder.filter(|_| !is_reserved)
            && self.gives_up_email(tx, &holder).await?
        {
            store::user_give_up_email(tx, holder.id).await?;
            store::account_codes_delete(tx, holder.id).await?;
            AuditEvent::new("user.lose_email")
                .user(holder.id)
                .record(tx, &RequestContext::itself(), self.clock.now())
                .await?;
        }
        ensure_free(tx, Some(user.id), None, Some(key)).await
    }

    /// Records that the user, who may have their present address, has just proved that they receive
    /// mail there.
    pub(in crate::domain) async fn record_email_proof(
        &self,
        tx: &mut Conn,
        user: &User,
        now: Timestamp,
    ) -> Result<User, Error> {
        let values = NewEmail {
            search_folded: search_text(user, &user.email),
            email: user.email.clone(),
            email_folded: names::identifier_key(&user.email),
        };
        let verified = store::user_verify_email(tx, user.id, &values, now)
            .await
            .map_err(taken)?;
        store::email_reminder_delete(tx, user.id).await?;
        Ok(verified)
    }

    /// Locks the row of another user who has the address with this key, and returns that user.
    /// Leaves a row that should have been locked first: that user has got the address since, and
    /// keeps it for now.
    pub(super) async fn lock_holder(
        &self,
        tx: &mut Conn,
        user: &User,
        key: &str,
        LockedHolders(holders): &LockedHolders,
    ) -> Result<Option<User>, Error> {
        let found = store::user_by_email(tx, key).await?;
        let is_in_order = |id: UserId| id > user.id || holders.contains(&id);
        let Some(found) = found.filter(|found| is_in_order(found.id)) else {
            return Ok(None);
        };
        let holder = store::user_lock(tx, found.id).await?;
        Ok(holder.filter(|holder| names::identifier_key(&holder.email) == key))
    }
}
