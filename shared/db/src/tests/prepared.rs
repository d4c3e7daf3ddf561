//! Tests of statements that are prepared once.

use std::sync::Arc;

use diesel::{
    connection::InstrumentationEvent,
    sql_types::{BigInt, Text},
};
use diesel_async::AsyncConnection as _;
use parking_lot::Mutex;

use super::{
    super::{Raw, prelude::*, prepared},
    accounts,
};
use crate::testing::{TestDatabase, on_both_backends};

#[on_both_backends]
async fn a_statement_is_prepared_once_for_all_values(database: TestDatabase) {
    let conn = &mut database.db().read().await.expect("a connection");
    let cached = Arc::new(Mutex::new(Vec::new()));
    let note = {
        let cached = Arc::clone(&cached);
        move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::CacheQuery { sql, .. } = event {
                cached.lock().push(sql.to_owned());
            }
        }
    };
    match conn.start(|| "test").0 {
        Raw::Sqlite(c) => c.set_instrumentation(note),
        Raw::Postgres(c) => c.set_instrumentation(note),
    }
    for number in [1_i64, 2, 3] {
        let rows: crate::Result<Vec<(i64, String)>> = query!(conn, |c| {
            let select = prepared::<(BigInt, Text)>("SELECT CAST(")
                .bind::<BigInt, _>(number)
                .text(" AS BIGINT) + 1, CAST(")
                .bind::<Text, _>("what is bound")
                .text(" AS TEXT)");
            select.load(c).await
        });
        assert_eq!(rows.expect("a row"), [(number + 1, "what is bound".to_owned())]);
    }
    assert_eq!(cached.lock().len(), 1);
    // A prepared text also works as an expression within a query.
    for login in ["ann", "bob"] {
        let found: crate::Result<Option<(String, i64)>> = query!(conn, |c| {
            accounts::table
                .filter(accounts::login.eq(login))
                .select((
                    accounts::login,
                    prepared::<BigInt>("(SELECT COUNT(*) FROM accounts others)"),
                ))
                .first(c)
                .await
                .optional()
        });
        assert_eq!(found.expect("nobody"), None);
    }
    assert_eq!(cached.lock().len(), 2);
}
