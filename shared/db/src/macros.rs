//! Macros that expand one query body once per backend.

/// Runs a query that is written once on either backend.
///
/// `conn` is a `&mut Conn`. The body sees the backend's own connection as `c` and evaluates to
/// diesel's `QueryResult<T>`. The macro evaluates to [`db::Result<T>`](crate::Result). Import
/// [`db::prelude::*`](crate::prelude) for the traits that a body needs.
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

/// Runs a query that only PostgreSQL understands, such as one with arrays. On SQLite it is an
/// error.
///
/// ```text
/// query_postgres!(conn, |c| prepared::<Text>("SELECT version()").load(c).await)
/// ```
#[macro_export]
macro_rules! query_postgres {
    ($conn:expr, |$c:ident| $body:expr $(,)?) => {{
        let (raw, statement) = $crate::Conn::start($conn, $crate::here!());
        let result = match raw {
            $crate::Raw::Sqlite(_) => ::core::result::Result::Err($crate::not_on_sqlite()),
            $crate::Raw::Postgres($c) => statement.run(async { $body }).await,
        };
        statement.end(result)
    }};
}

/// Evaluates to a closure that names the enclosing function, by a path that ends in `::here`.
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

/// Reads the first row of a query, and locks it until the transaction ends.
///
/// Runs `SELECT ... FOR UPDATE` on PostgreSQL, and a plain `SELECT` on SQLite, which has only one
/// writer. Evaluates to `db::Result<Option<T>>`.
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

/// Locks the first row of a query like [`lock_row!`](crate::lock_row), but lets others insert rows
/// that refer to it meanwhile: `SELECT ... FOR NO KEY UPDATE` on PostgreSQL. For rows that are
/// never deleted and keep their keys.
#[macro_export]
macro_rules! lock_row_but_its_key {
    ($conn:expr, $query:expr $(,)?) => {{
        use $crate::prelude::{OptionalExtension as _, QueryDsl as _, RunQueryDsl as _};
        let (raw, statement) = $crate::Conn::start($conn, $crate::here!());
        let result = match raw {
            $crate::Raw::Sqlite(c) => statement.run(async { $query.first(c).await.optional() }).await,
            $crate::Raw::Postgres(c) => {
                statement
                    .run(async { $query.for_no_key_update().first(c).await.optional() })
                    .await
            }
        };
        statement.end(result)
    }};
}

/// Inserts rows with as few statements as the backends' limits allow.
///
/// `rows` is a slice of a type of at most 18 columns that derives `Insertable` with
/// `treat_none_as_default_value = false`. Evaluates to `db::Result<()>`.
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
                // diesel-async cannot insert several rows at once on SQLite, so this uses diesel
                // itself.
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
/// The body uses `tx: &mut Conn` and evaluates to `Result<T, E>` with `E: From<db::Error>`. `?` and
/// `return` leave the body only. `Ok` commits, and once begun, the commit completes even if the
/// call is cancelled. `Err` rolls back, and so does a call that is cancelled before the commit.
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
