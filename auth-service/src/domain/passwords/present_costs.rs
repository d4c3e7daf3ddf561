//! The costs of the imported hashes that are in the database, as far as this process knows.

use std::{sync::Arc, time::Duration};

use db::Db;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    domain::{
        error::Error,
        passwords::{hashing::HashingPool, imported::Cost},
    },
    store,
};

/// Time for which what was read is not read again.
const FRESH: Duration = Duration::from_secs(5);

/// Tells the hashing pool which costs are present. Clones share what they know.
#[derive(Clone, Debug)]
pub(crate) struct PresentCosts {
    db: Db,
    hashing: HashingPool,
    /// Time when the costs were last read.
    read_time: Arc<Mutex<Option<Instant>>>,
}

impl PresentCosts {
    pub(crate) fn new(db: Db, hashing: HashingPool) -> Self {
        Self {
            db,
            hashing,
            read_time: Arc::default(),
        }
    }

    /// Reads the costs again if they may have changed: an import may have added some, and each
    /// login of an imported user takes one away.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let now = Instant::now();
        // Set before the query, so that concurrent calls do not repeat it.
        let before = {
            let mut read_time = self.read_time.lock();
            if read_time.is_some_and(|time| now.saturating_duration_since(time) < FRESH) {
                return Ok(());
            }
            read_time.replace(now)
        };
        // If this call fails or is cancelled, the next one tries again.
        let again = scopeguard::guard((), |()| *self.read_time.lock() = before);
        let costs = self.read().await?;
        self.hashing.expect(&costs).await?;
        scopeguard::ScopeGuard::into_inner(again);
        Ok(())
    }

    async fn read(&self) -> Result<Vec<Cost>, Error> {
        let mut conn = self.db.read().await?;
        let (mut costs, mut last) = (Vec::new(), String::new());
        // There are few, and the index leads from each to the next.
        while let Some(scheme) = store::imported_scheme_after(&mut conn, &last).await? {
            match scheme.parse() {
                Ok(cost) => costs.push(cost),
                Err(error) => tracing::error!(scheme, %error, "an imported password has a scheme that is not known"),
            }
            last = scheme;
        }
        Ok(costs)
    }
}
