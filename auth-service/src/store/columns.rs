//! Lets diesel read and write the plain types of `model`, which do not depend on tables.

/// Maps the fields of a plain type to the columns of the same names, so that a query can select it
/// with `as_select()` and, with `insertable`, insert a reference to it.
///
/// ```text
/// columns!(insertable Action in actions { id: ActionId, code_name: String });
/// ```
macro_rules! columns {
    (insertable $model:ident in $table:ident { $($column:ident: $type:ty),+ $(,)? }) => {
        columns!($model in $table { $($column: $type),+ });

        impl<'a> diesel::Insertable<$table::table> for &'a $model {
            type Values =
                <($(diesel::dsl::Eq<$table::$column, &'a $type>,)+) as diesel::Insertable<$table::table>>::Values;

            fn values(self) -> Self::Values {
                diesel::Insertable::<$table::table>::values(($($table::$column.eq(&self.$column),)+))
            }
        }

        impl diesel::query_builder::UndecoratedInsertRecord<$table::table> for $model {}
    };
    ($model:ident in $table:ident { $($column:ident: $type:ty),+ $(,)? }) => {
        impl<DB: diesel::backend::Backend> diesel::Selectable<DB> for $model {
            type SelectExpression = ($($table::$column,)+);

            fn construct_selection() -> Self::SelectExpression {
                ($($table::$column,)+)
            }
        }

        impl<DB, ST> diesel::Queryable<ST, DB> for $model
        where
            DB: diesel::backend::Backend,
            ($($type,)+): diesel::deserialize::FromStaticSqlRow<ST, DB>,
        {
            type Row = ($($type,)+);

            fn build(($($column,)+): Self::Row) -> diesel::deserialize::Result<Self> {
                Ok(Self { $($column: $column.into()),+ })
            }
        }
    };
}

pub(super) use columns;

/// The error for a row whose columns contradict each other or cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row {id} of {table} is corrupt: {what}")]
pub(super) struct CorruptRow {
    pub(super) table: &'static str,
    pub(super) id: String,
    pub(super) what: &'static str,
}

impl From<CorruptRow> for db::Error {
    fn from(corrupt: CorruptRow) -> Self {
        Self::Internal(Box::new(corrupt))
    }
}
