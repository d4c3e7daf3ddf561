//! Deletion of nonces that were used long ago.

use std::time::Duration;

use db::write_tx;

use crate::{
    domain::{error::Error, users::accounts::Accounts},
    store,
};

/// Number of nonces that one transaction deletes.
const BATCH: i64 = 500;
/// Time after its expiry for which a used nonce is remembered, so that a clock that is set back
/// does not make it valid again.
const MEMORY: Duration = Duration::from_hours(24);

impl Accounts {
    /// Deletes nonces that were used long ago, batch by batch. Does nothing while the clock cannot
    /// be relied on.
    pub(crate) async fn purge_nonces(&self) -> Result<(), Error> {
        loop {
            let Some(settled) = self.db.settled(&self.clock).await? else {
                return Ok(());
            };
            let before = settled.past().minus(MEMORY);
            let deleted: Result<usize, Error> =
                write_tx!(self.db, |tx| Ok(store::nonces_delete_before(tx, before, BATCH).await?));
            if deleted? == 0 {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }
}
