//! Deletion of a guest by the guest, who has no password to confirm it with.

use db::write_tx;

use crate::{
    domain::{
        error::Error,
        request_context::RequestContext,
        users::{accounts::Accounts, deletion::ACTION},
    },
    store,
};

impl Accounts {
    /// Deletes the actor, after a check of their credential.
    pub(crate) async fn delete_me_as_guest(&self, context: &RequestContext, credential: &str) -> Result<(), Error> {
        self.verify_actor_as_guest(context, credential, ACTION).await?;
        let is_deleted: Result<bool, Error> = write_tx!(self.db, |tx| {
            let (user, _) = self.lock_actor(tx, context).await?;
            // The account may have been upgraded meanwhile.
            if store::guest_credential(tx, user.id).await?.is_none() {
                return Ok(false);
            }
            self.delete(tx, context, user.id).await?;
            Ok(true)
        });
        if is_deleted? {
            Ok(())
        } else {
            Err(self.refuse_actor_as_guest(context, ACTION).await)
        }
    }
}
