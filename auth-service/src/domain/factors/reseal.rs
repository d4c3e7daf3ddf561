//! Encryption of the secrets of authenticator apps anew, after the server secret was replaced. Once
//! all of them are under the current key, the previous server secret is no longer needed for them.

use db::write_tx;

use crate::{
    domain::{error::Error, users::accounts::Accounts},
    store,
};

/// Number of factors that are read at a time.
const BATCH: i64 = 200;

impl Accounts {
    /// Encrypts each secret that is under the previous key with the current one. Does nothing if
    /// there is no previous key.
    pub(crate) async fn reseal_factors(&self) -> Result<(), Error> {
        let secrets = &self.factors.secrets;
        if !secrets.has_previous_key() {
            return Ok(());
        }
        let mut after = None;
        loop {
            let factors = store::totp_factors_after(&mut self.db.read().await?, after, BATCH).await?;
            let Some(last) = factors.last() else {
                return Ok(());
            };
            after = Some(last.id);
            let resealed: Result<(), Error> = write_tx!(self.db, |tx| {
                for factor in &factors {
                    if let Some((secret, false)) = secrets.open(factor.id, &factor.sealed_secret) {
                        let sealed = secrets.seal(factor.id, &secret)?;
                        store::totp_factor_reseal(tx, factor.id, &sealed).await?;
                    }
                }
                Ok(())
            });
            resealed?;
            tokio::task::yield_now().await;
        }
    }
}
