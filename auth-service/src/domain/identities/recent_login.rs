//! Changes that ask for the current password, by users who have none: their login must be recent
//! instead.

use access::policy::StepUp;
use base::validate::InvalidFields;

use crate::{
    domain::{
        error::Error,
        passwords::{password::Password, unusable::has_password},
        request_context::RequestContext,
        users::accounts::Accounts,
    },
    model::User,
    store,
};

impl Accounts {
    /// Verifies the actor's current password, or, if they have none, that they have logged in
    /// recently. Returns the actor. The audit log records a wrong password as a refusal of
    /// `action`.
    pub(in crate::domain) async fn verify_actor_or_recent_login(
        &self,
        context: &RequestContext,
        password: Option<Password>,
        action: &'static str,
    ) -> Result<User, Error> {
        if let Some(password) = password {
            return self.verify_actor(context, password, action).await;
        }
        self.attempts.admit_login(context)?;
        let id = context.user_id().ok_or(Error::UserNotFound)?;
        let found = store::user_by_id(&mut self.db.read().await?, id).await?;
        let found = found.filter(|user| user.is_active && user.is_person());
        let found = found.ok_or(Error::UserNotFound)?;
        if found.is_guest {
            return Err(Error::GuestAccount);
        }
        if has_password(&found) {
            return Err(InvalidFields::one("current_password", "is required").into());
        }
        self.ensure_recent_login(context)?;
        Ok(found)
    }

    /// Refuses an actor whose login is not recent.
    pub(in crate::domain) fn ensure_recent_login(&self, context: &RequestContext) -> Result<(), Error> {
        let required = StepUp::RECENT_LOGIN;
        let is_met = context
            .principal()
            .is_some_and(|principal| required.is_met_by(principal, &self.clock));
        if is_met {
            Ok(())
        } else {
            Err(Error::StepUpRequired(required))
        }
    }
}
