//! Queries for what a user holds. Each reads the user or session and the holdings in one statement,
//! with one text for each list.

use base::ids::{SessionId, UserId};
use db::{Prepared, prelude::*, prepared};
use diesel::sql_types::{Nullable, Text};

use super::{
    NewSession,
    schema::{sessions, users},
    session::SessionRow,
};
use crate::model::{Holdings, Session, TokenHoldings, User};

/// Separator of the names in a list. No name of a role or permission contains it.
const SEPARATOR: char = ',';

/// A list as one text; `None` if it is empty.
pub(super) type List = Prepared<Nullable<Text>, db::Sql>;

/// Selects the roles of the user whose id is in this column.
macro_rules! roles_of {
    ($user_id:literal) => {
        prepared(concat!(
            "(SELECT string_agg(roles.code_name, ',') FROM user_roles ",
            "JOIN roles ON roles.id = user_roles.role_id WHERE user_roles.user_id = ",
            $user_id,
            ")"
        ))
    };
}

/// Selects the permissions that are granted directly to the user whose id is in this column.
macro_rules! direct_of {
    ($user_id:literal) => {
        prepared(concat!(
            "(SELECT string_agg(permissions.name, ',') FROM user_permissions ",
            "JOIN permissions ON permissions.id = user_permissions.permission_id WHERE user_permissions.user_id = ",
            $user_id,
            ")"
        ))
    };
}

/// Selects the roles of the user in the current row of `users`.
pub(super) fn roles() -> List {
    roles_of!("users.id")
}

/// Selects the roles of that user, each with each of its permissions: `role permission`, or `role `
/// if the role has none.
fn by_role() -> List {
    prepared(
        "(SELECT string_agg(roles.code_name || ' ' || COALESCE(permissions.name, ''), ',') FROM user_roles \
         JOIN roles ON roles.id = user_roles.role_id \
         LEFT JOIN role_permissions ON role_permissions.role_id = roles.id \
         LEFT JOIN permissions ON permissions.id = role_permissions.permission_id \
         WHERE user_roles.user_id = users.id)",
    )
}

/// Selects the permissions that are granted to that user directly.
pub(super) fn direct() -> List {
    direct_of!("users.id")
}

/// A user and what they hold.
pub(crate) type UserWithHoldings = (User, Holdings);

/// A session, its user, and the holdings that go into an access token.
pub(crate) type SessionWithHoldings = (Session, User, TokenHoldings);

/// Reads these users and what they hold.
pub(crate) async fn users_with_holdings(
    conn: &mut Conn,
    ids: &[UserId],
) -> db::Result<Vec<(UserId, UserWithHoldings)>> {
    let found: Vec<(User, Option<String>, Option<String>)> = query!(conn, |c| users::table
        .filter(users::id.eq_any(ids))
        .select((User::as_select(), by_role(), direct()))
        .cached()
        .load(c)
        .await)?;
    let parsed = found.into_iter().map(|(user, by_role, direct)| {
        let holdings = parse_holdings(by_role.as_deref(), direct.as_deref());
        (user.id, (user, holdings))
    });
    Ok(parsed.collect())
}

/// Reads what the user holds: nothing if there is no such user.
pub(crate) async fn holdings(conn: &mut Conn, id: UserId) -> db::Result<Holdings> {
    let found: Option<(Option<String>, Option<String>)> = query!(conn, |c| users::table
        .find(id)
        .select((by_role(), direct()))
        .first(c)
        .await
        .optional())?;
    let (by_role, direct) = found.unwrap_or_default();
    Ok(parse_holdings(by_role.as_deref(), direct.as_deref()))
}

/// Reads the holdings that go into the user's access tokens: nothing if there is no such user.
pub(crate) async fn token_holdings(conn: &mut Conn, id: UserId) -> db::Result<TokenHoldings> {
    let found: Option<(Option<String>, Option<String>)> = query!(conn, |c| users::table
        .find(id)
        .select((roles(), direct()))
        .first(c)
        .await
        .optional())?;
    let (roles, direct) = found.unwrap_or_default();
    Ok(parse_token_holdings(roles.as_deref(), direct.as_deref()))
}

/// Inserts a session. Returns the holdings that go into its access tokens.
pub(crate) async fn session_insert(conn: &mut Conn, new: &NewSession) -> db::Result<TokenHoldings> {
    let held_roles: List = roles_of!("sessions.user_id");
    let held_directly: List = direct_of!("sessions.user_id");
    let (roles, direct): (Option<String>, Option<String>) = query!(conn, |c| diesel::insert_into(sessions::table)
        .values(new)
        .returning((held_roles, held_directly))
        .cached()
        .get_result(c)
        .await)?;
    Ok(parse_token_holdings(roles.as_deref(), direct.as_deref()))
}

/// Reads these sessions, their users and the holdings that go into access tokens, all in one
/// statement and so from one moment.
pub(crate) async fn sessions_with_holdings(
    conn: &mut Conn,
    ids: &[SessionId],
) -> db::Result<Vec<(SessionId, SessionWithHoldings)>> {
    let found: Vec<(SessionRow, User, Option<String>, Option<String>)> = query!(conn, |c| sessions::table
        .inner_join(users::table)
        .filter(sessions::id.eq_any(ids))
        .select((SessionRow::as_select(), User::as_select(), roles(), direct()))
        .cached()
        .load(c)
        .await)?;
    let parsed = found.into_iter().map(|(session, user, roles, direct)| {
        let session = Session::try_from(session)?;
        let holdings = parse_token_holdings(roles.as_deref(), direct.as_deref());
        Ok((session.id, (session, user, holdings)))
    });
    parsed.collect()
}

pub(super) fn parse_token_holdings(roles: Option<&str>, direct: Option<&str>) -> TokenHoldings {
    TokenHoldings {
        roles: sorted(roles),
        direct: sorted(direct),
    }
}

fn parse_holdings(by_role: Option<&str>, direct: Option<&str>) -> Holdings {
    let mut holdings = Holdings {
        direct: sorted(direct),
        ..Holdings::default()
    };
    for pair in sorted(by_role) {
        let (role, permission) = pair.split_once(' ').unwrap_or((&pair, ""));
        if holdings.roles.last().is_none_or(|last| last != role) {
            holdings.roles.push(role.to_owned());
        }
        if !permission.is_empty() {
            holdings.by_role.push((role.to_owned(), permission.to_owned()));
        }
    }
    holdings
}

fn sorted(list: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = list
        .into_iter()
        .flat_map(|list| list.split(SEPARATOR))
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_apart_and_sorted() {
        let holdings = parse_holdings(
            Some("player games:play,admin users:read,player games:create,idle "),
            Some("b:c,a:b"),
        );
        assert_eq!(holdings.roles, ["admin", "idle", "player"]);
        let pair = |role: &str, permission: &str| (role.to_owned(), permission.to_owned());
        assert_eq!(
            holdings.by_role,
            [
                pair("admin", "users:read"),
                pair("player", "games:create"),
                pair("player", "games:play")
            ]
        );
        assert_eq!(holdings.direct, ["a:b", "b:c"]);
        let nothing = parse_holdings(None, None);
        assert!(nothing.roles.is_empty() && nothing.by_role.is_empty() && nothing.direct.is_empty());
    }
}
