//! The macros that expand one query body once per backend.

/// Runs a query written once on either backend.
///
/// `conn` is a `&mut Conn`; the body, with the backend's own connection as `c`, evaluates to
/// diesel's `QueryResult<T>`, and the macro to [`db::Result<T>`](crate::Result). Import
/// [`db::prelude::*`](crate::prelude) for what a body needs.
///
/// ```text
/// query!(conn, |c| users::table.find(id).select(UserRow::as_select()).first(c).await.optional())
/// ```
#[macro_export]
macro_rules! query {
    ($conn:expr, |$c:ident| $body:expr $(,)?) => {{
        let (raw, statement) = $crate::Conn::start($conn, $crate::here!());
        let result = match raw {
            $crate::Raw::Sqlite($c) => statement.run(async { $body }).await,
            $crate::Raw::Postgres($c) => statement.run(async { $body }).await,
        };
        statement.end(result)
    }};
}

/// Names the function that it stands in.
#[doc(hidden)]
#[macro_export]
macro_rules! here {
    () => {
        || {
            const fn here() {}
            ::core::any::type_name_of_val(&here)
        }
    };
}

/// Locks the first row of a query until the transaction ends, and reads it.
///
/// `SELECT ... FOR UPDATE` on PostgreSQL; on SQLite the plain `SELECT`, whose writer is alone.
/// Evaluates to `db::Result<Option<T>>`.
///
/// ```text
/// lock_row!(tx, users::table.find(id).select(UserRow::as_select()))
/// ```
#[macro_export]
macro_rules! lock_row {
    ($conn:expr, $query:expr $(,)?) => {{
        use $crate::prelude::{OptionalExtension as _, QueryDsl as _, RunQueryDsl as _};
        let (raw, statement) = $crate::Conn::start($conn, $crate::here!());
        let result = match raw {
            $crate::Raw::Sqlite(c) => statement.run(async { $query.first(c).await.optional() }).await,
            $crate::Raw::Postgres(c) => {
                statement
                    .run(async { $query.for_update().first(c).await.optional() })
                    .await
            }
        };
        statement.end(result)
    }};
}

/// Inserts rows by as few statements as either backend takes them in.
///
/// `rows` is a slice of what derives `Insertable` with `treat_none_as_default_value = false`, of at
/// most 16 columns. Evaluates to `db::Result<()>`.
///
/// ```text
/// insert_rows!(tx, moves::table, &rows)
/// ```
#[macro_export]
macro_rules! insert_rows {
    ($conn:expr, $table:expr, $rows:expr $(,)?) => {{
        let mut inserted = Ok(());
        for rows in $rows.chunks($crate::MAX_ROWS) {
            let (raw, statement) = $crate::Conn::start($conn, $crate::here!());
            let result = match raw {
                // diesel-async has no way of its own for many rows on SQLite.
                $crate::Raw::Sqlite(c) => {
                    let rows = rows.to_vec();
                    let insert = c.spawn_blocking(move |c| {
                        ::diesel::RunQueryDsl::execute(::diesel::insert_into($table).values(&rows), c)
                    });
                    statement.run(insert).await
                }
                $crate::Raw::Postgres(c) => {
                    let insert = ::diesel::insert_into($table).values(rows);
                    statement.run($crate::prelude::RunQueryDsl::execute(insert, c)).await
                }
            };
            inserted = statement.end(result).map(|_| ());
            if inserted.is_err() {
                break;
            }
        }
        inserted
    }};
}

/// Runs one write transaction.
///
/// The body, with `tx: &mut Conn`, evaluates to `Result<T, E>` with `E: From<db::Error>`; `?` and
/// `return` leave the body only. `Ok` commits, which no cancelled call can tear; `Err` rolls back,
/// and so does a call that is cancelled before the commit.
///
/// ```text
/// let user: Result<User, Error> = write_tx!(db, |tx| {
///     store::user_insert(tx, &new).await?;
///     Ok(new)
/// });
/// ```
#[macro_export]
macro_rules! write_tx {
    ($db:expr, |$tx:ident| $body:expr $(,)?) => {
        match $db.begin().await {
            Err(error) => Err(::core::convert::From::from(error)),
            Ok(mut transaction) => {
                let outcome = async {
                    let $tx: &mut $crate::Conn = transaction.conn();
                    $body
                }
                .await;
                match outcome {
                    Ok(value) => match transaction.commit().await {
                        Ok(()) => Ok(value),
                        Err(error) => Err(::core::convert::From::from(error)),
                    },
                    Err(error) => {
                        transaction.rollback().await;
                        Err(error)
                    }
                }
            }
        }
    };
}
