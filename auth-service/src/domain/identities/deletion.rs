//! Deletion of an account by a user who confirms it with an ID token.

use db::write_tx;

use crate::domain::{
    error::Error,
    identities::proof::IdTokenProof,
    request_context::RequestContext,
    users::{accounts::Accounts, deletion::ACTION},
};

impl Accounts {
    /// Deletes the actor, after a check of an ID token of one of their identities.
    pub(crate) async fn delete_me_by_id_token(
        &self,
        context: &RequestContext,
        proof: &IdTokenProof,
    ) -> Result<(), Error> {
        let proven = self.verify_actor_by_id_token(context, proof, ACTION).await?;
        write_tx!(self.db, |tx| {
            proven.use_nonce(tx).await?;
            let (user, _) = self.lock_actor(tx, context).await?;
            // The identity may have been unlinked meanwhile.
            if !proven.is_of(tx, user.id).await? {
                return Err(Error::IdentityNotFound);
            }
            self.delete(tx, context, user.id).await
        })
    }
}
