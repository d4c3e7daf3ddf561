//! Users who are people, as opposed to service accounts.

use base::ids::UserId;
use db::Conn;

use crate::{domain::error::Error, model::User, store};

/// Locks the row of a person who has not been deleted, and returns the user. Other use cases handle
/// users that represent services.
pub(in crate::domain) async fn user_lock_person(tx: &mut Conn, id: UserId) -> Result<User, Error> {
    let user = store::user_lock(tx, id).await?.filter(User::is_person);
    user.ok_or(Error::UserNotFound)
}

/// Finds a person by the key of a login or e-mail address.
pub(in crate::domain) async fn person_by_identifier(conn: &mut Conn, key: &str) -> db::Result<Option<User>> {
    // No login has an @, and every address has one.
    let found = if key.contains('@') {
        store::user_by_email(conn, key).await?
    } else {
        store::user_by_login(conn, key).await?
    };
    Ok(found.filter(User::is_person))
}

/// Finds a person who has a password, by the key of a login or e-mail address. A guest has none.
pub(in crate::domain) async fn person_with_password(conn: &mut Conn, key: &str) -> db::Result<Option<User>> {
    let found = person_by_identifier(conn, key).await?;
    Ok(found.filter(|user| !user.is_guest))
}
