//! Hashes whose cost a refusal must not reveal.

use super::{
    HashingPool,
    own::{cost_of, internal},
};
use crate::domain::{
    error::Error,
    passwords::{
        imported::{Cost, ImportedHash},
        low_priority::processor_time,
        padding::most_expensive,
        queue::Client,
    },
};

impl HashingPool {
    /// Makes refusals take at least as long as one of our hashes with the present settings, and as
    /// the slowest imported hash of these costs. A hash of ours from before the settings were
    /// lowered takes longer than that.
    pub(in crate::domain) async fn expect(&self, imported: &[Cost]) -> Result<(), Error> {
        let mut costs = most_expensive(imported);
        for cost in &costs {
            let cost = *cost;
            if !self.padding.is_unmeasured(cost) {
                continue;
            }
            let permit = self.permit(&Client::Own).await?;
            let time = self.run(permit, move |_, memory| {
                let hash = ImportedHash::random(cost);
                // The first time includes the cost of new memory.
                hash.is_of(b"password", memory)?;
                let start = processor_time();
                hash.is_of(b"password", memory)?;
                Ok::<_, argon2::Error>(processor_time().saturating_sub(start))
            });
            let time = time.await?.map_err(|error| internal(error.into()))?;
            self.padding.observe(cost, time);
        }
        costs.push(cost_of(self.argon2.params()));
        self.padding.set_present(&costs);
        Ok(())
    }
}
