//! Users who are people, and not the accounts of services.

use base::ids::UserId;
use db::Conn;

use crate::{
    domain::error::Error,
    store::{self, User},
};

impl User {
    /// Whether this is a person, and not deleted.
    pub(in crate::domain) const fn is_person(&self) -> bool {
        !self.is_service && self.delete_time.is_none()
    }
}

/// A person who is not deleted, whose row is locked. Users who stand for services are looked after elsewhere.
pub(in crate::domain) async fn user_lock_person(tx: &mut Conn, id: UserId) -> Result<User, Error> {
    let user = store::user_lock(tx, id).await?.filter(User::is_person);
    user.ok_or(Error::UserNotFound)
}
