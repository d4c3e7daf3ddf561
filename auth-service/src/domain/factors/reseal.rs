//! Encryption of the secrets of authenticator apps anew, after the server secret was replaced. Once
//! all of them are under the current key, the previous server secret is no longer needed for them.

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
            for factor in &factors {
                if let Some((secret, false)) = secrets.open(factor.id, &factor.sealed_secret) {
                    let sealed = secrets.seal(factor.id, &secret)?;
                    // One row at a time, so that no other row is locked while a login waits for it.
                    store::totp_factor_reseal(&mut self.db.write().await?, factor.id, &sealed).await?;
                }
            }
            tokio::task::yield_now().await;
        }
    }
}
