//! Queries on `resources`, `actions` and `roles`, which share most of their columns.

use base::{
    clock::Timestamp,
    ids::{Id, Kind},
    page::{PageRequest, Position},
};
use db::prelude::*;

use super::{
    columns::columns,
    schema::{actions, resources, roles},
};
use crate::{
    ids::{ActionKind, ResourceId, ResourceKind, RoleKind},
    model::{Action, EntryNames, Resource, Role},
};

/// An entry of the catalogue with its queries. Each entry has a code name for policies and a name
/// for people.
pub(crate) trait Entry: Sized + Send + Sync {
    /// Kind of the entry's id.
    type Kind: Kind;

    /// Makes an entry without storing it.
    fn new(id: Id<Self::Kind>, names: EntryNames, now: Timestamp) -> Self;

    /// Returns the position of the entry in lists, which begin with the oldest.
    fn position(&self) -> Position<Self::Kind>;

    fn entry_insert(&self, conn: &mut Conn) -> impl Future<Output = db::Result<()>> + Send;

    fn entry_by_code_name(conn: &mut Conn, code_name: &str) -> impl Future<Output = db::Result<Option<Self>>> + Send;

    fn entry_by_name(conn: &mut Conn, name: &str) -> impl Future<Output = db::Result<Option<Self>>> + Send;

    fn entries_list(
        conn: &mut Conn,
        page: &PageRequest<Self::Kind>,
    ) -> impl Future<Output = db::Result<Vec<Self>>> + Send;

    /// Changes the name and the description. A value that is `None` stays as it is.
    fn entry_describe(
        &self,
        conn: &mut Conn,
        name: Option<&str>,
        description: Option<&str>,
    ) -> impl Future<Output = db::Result<()>> + Send;

    /// Deletes the entry, and the rows that belong to it.
    fn entry_delete(&self, conn: &mut Conn) -> impl Future<Output = db::Result<()>> + Send;
}

macro_rules! entry {
    ($model:ident, $kind:ident in $table:ident $(, $field:ident: $type:ty = $value:expr)?) => {
        columns!(insertable $model in $table {
            id: Id<$kind>,
            code_name: String,
            name: String,
            description: String,
            $($field: $type,)?
            create_time: Timestamp,
        });

        impl Entry for $model {
            type Kind = $kind;

            fn new(id: Id<$kind>, names: EntryNames, now: Timestamp) -> Self {
                Self {
                    id,
                    code_name: names.code_name,
                    name: names.name,
                    description: names.description,
                    $($field: $value,)?
                    create_time: now,
                }
            }

            fn position(&self) -> Position<$kind> {
                Position {
                    time: self.create_time,
                    id: self.id,
                }
            }

            async fn entry_insert(&self, conn: &mut Conn) -> db::Result<()> {
                query!(conn, |c| diesel::insert_into($table::table)
                    .values(self)
                    .execute(c)
                    .await)
                .map(|_| ())
            }

            async fn entry_by_code_name(conn: &mut Conn, code_name: &str) -> db::Result<Option<Self>> {
                query!(conn, |c| $table::table
                    .filter($table::code_name.eq(code_name))
                    .select(Self::as_select())
                    .first(c)
                    .await
                    .optional())
            }

            async fn entry_by_name(conn: &mut Conn, name: &str) -> db::Result<Option<Self>> {
                query!(conn, |c| $table::table
                    .filter($table::name.eq(name))
                    .select(Self::as_select())
                    .first(c)
                    .await
                    .optional())
            }

            async fn entries_list(conn: &mut Conn, page: &PageRequest<$kind>) -> db::Result<Vec<Self>> {
                query!(conn, |c| {
                    let mut listed = $table::table
                        .order(($table::create_time, $table::id))
                        .select(Self::as_select())
                        .limit(page.limit())
                        .into_boxed();
                    if let Some(after) = page.after {
                        listed = listed.filter(
                            $table::create_time
                                .gt(after.time)
                                .or($table::create_time.eq(after.time).and($table::id.gt(after.id))),
                        );
                    }
                    listed.load(c).await
                })
            }

            async fn entry_describe(
                &self,
                conn: &mut Conn,
                name: Option<&str>,
                description: Option<&str>,
            ) -> db::Result<()> {
                let update = diesel::update($table::table.find(self.id)).set((
                    $table::name.eq(name.unwrap_or(&self.name)),
                    $table::description.eq(description.unwrap_or(&self.description)),
                ));
                query!(conn, |c| update.cached().execute(c).await).map(|_| ())
            }

            async fn entry_delete(&self, conn: &mut Conn) -> db::Result<()> {
                let delete = diesel::delete($table::table.find(self.id));
                query!(conn, |c| delete.execute(c).await).map(|_| ())
            }
        }
    };
}

entry!(Resource, ResourceKind in resources, owner: Option<String> = None);
entry!(Action, ActionKind in actions);
entry!(Role, RoleKind in roles);

pub(crate) async fn resource_set_owner(conn: &mut Conn, id: ResourceId, owner: &str) -> db::Result<()> {
    let update = diesel::update(resources::table.find(id)).set(resources::owner.eq(owner));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Counts the resources that this owner has declared.
pub(crate) async fn resources_count_of(conn: &mut Conn, owner: &str) -> db::Result<i64> {
    query!(conn, |c| resources::table
        .filter(resources::owner.eq(owner))
        .count()
        .get_result(c)
        .await)
}

/// Returns the code names of all roles, sorted.
pub(crate) async fn role_code_names(conn: &mut Conn) -> db::Result<Vec<String>> {
    query!(conn, |c| roles::table
        .order(roles::code_name)
        .select(roles::code_name)
        .load(c)
        .await)
}
