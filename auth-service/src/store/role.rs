//! Queries on `roles` and `user_roles`.

use base::{ids::UserId, sql_types::Uuid};
use db::prelude::*;

use super::schema::{roles, user_roles};
use crate::model::ReservedRole;

pub(crate) async fn user_role_insert(conn: &mut Conn, user_id: UserId, role: ReservedRole) -> db::Result<()> {
    query!(conn, |c| {
        let role_id = roles::table
            .filter(roles::code_name.eq(role.code_name()))
            .select(roles::id);
        let source = role_id.select((user_id.into_sql::<Uuid>(), roles::id));
        diesel::insert_into(user_roles::table)
            .values(source)
            .into_columns((user_roles::user_id, user_roles::role_id))
            .execute(c)
            .await
    })
    .map(|_| ())
}

/// Returns the code names of the user's roles, sorted.
pub(crate) async fn user_role_names(conn: &mut Conn, user_id: UserId) -> db::Result<Vec<String>> {
    query!(conn, |c| {
        user_roles::table
            .inner_join(roles::table)
            .filter(user_roles::user_id.eq(user_id))
            .order(roles::code_name)
            .select(roles::code_name)
            .load(c)
            .await
    })
}

/// Returns the code names among these that roles have.
pub(crate) async fn roles_named(conn: &mut Conn, code_names: &[&str]) -> db::Result<Vec<String>> {
    query!(conn, |c| roles::table
        .filter(roles::code_name.eq_any(code_names))
        .select(roles::code_name)
        .load(c)
        .await)
}

pub(crate) async fn users_with_role_exist(conn: &mut Conn, role: ReservedRole) -> db::Result<bool> {
    query!(conn, |c| {
        let holders = user_roles::table
            .inner_join(roles::table)
            .filter(roles::code_name.eq(role.code_name()));
        diesel::select(diesel::dsl::exists(holders)).get_result(c).await
    })
}
