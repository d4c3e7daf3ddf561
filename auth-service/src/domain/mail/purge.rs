//! Deletion of codes, counts and requests that are no longer of use.

use std::time::Duration;

use base::clock::ALLOWANCE;
use db::write_tx;

use crate::{
    domain::{error::Error, mail::outbox::Mails},
    store,
};

/// Number of rows that one transaction deletes.
const BATCH: i64 = 500;
/// Age at which an unsent mail is deleted if nothing gave it up before.
const MAIL_MEMORY: Duration = Duration::from_hours(30);
/// Age at which an unanswered request is deleted. It is usually answered within seconds, but not if
/// mail is no longer configured.
const REQUEST_MEMORY: Duration = Duration::from_hours(24);
/// How long mails to an address are counted. Longer than the longest limit, because the clocks of
/// replicas differ.
pub(super) const QUOTA_MEMORY: Duration = Duration::from_hours(25);

impl Mails {
    /// Deletes expired codes and former addresses, and old counts and requests, batch by batch.
    pub(crate) async fn purge(&self) -> Result<(), Error> {
        loop {
            let Some(settled) = self.db.settled(&self.clock).await? else {
                return Ok(());
            };
            let past = settled.past();
            let mut conn = self.db.read().await?;
            let codes = store::account_codes_expired(&mut conn, past, BATCH).await?;
            let remembered = (past.minus(QUOTA_MEMORY), settled.now().plus(ALLOWANCE));
            let counted = store::mail_quota_outside(&mut conn, remembered, BATCH).await?;
            let requests = store::mail_requests_before(&mut conn, past.minus(REQUEST_MEMORY), BATCH).await?;
            drop(conn);
            let deleted: Result<usize, Error> = write_tx!(self.db, |tx| {
                // Without a mail server, no job gives these mails up.
                let mails = store::mails_delete_before(tx, past.minus(MAIL_MEMORY), BATCH).await?;
                let undos = store::email_undos_delete_before(tx, past, BATCH).await?;
                let rows = codes.len() + counted.len() + requests.len() + mails + undos;
                for code in codes {
                    store::account_code_delete_expired(tx, code, past).await?;
                }
                store::mail_quota_delete(tx, &counted).await?;
                store::mail_requests_delete(tx, &requests).await?;
                Ok(rows)
            });
            if deleted? == 0 {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }
}
