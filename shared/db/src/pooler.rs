//! Checks at the start that a pooler between a service and PostgreSQL keeps what the service relies
//! on.
//!
//! A pooler in transaction mode, such as PgBouncer's, gives each transaction any of its connections
//! to the server. What belongs to a session is then lost: LISTEN, advisory locks and `SET`. The
//! services do these over a connection past the pooler. Prepared statements belong to a session as
//! well; PgBouncer carries them over since version 1.21.

use std::{pin::pin, time::Duration};

use diesel::{
    QueryResult,
    sql_types::{BigInt, Bool, Integer, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use uuid::Uuid;

use super::{Error, MigrateError, PoolerError, conn::bounded, postgres::Pool, prepared};

/// Attempts to see two connections share a session. A pooler that is in use may give the second one
/// another session.
const ATTEMPTS: u32 = 3;

/// Time for a pooler to find a second session. One that has no second session cannot mix them up.
const SECOND_SESSION: Duration = Duration::from_secs(1);

const ANSWER: Duration = Duration::from_secs(5);

/// A connection with a session of its own. Refuses a pooler that would lose what belongs to a
/// session.
pub(super) async fn own_session(pool: &Pool) -> Result<AsyncPgConnection, MigrateError> {
    match checked(pool).await {
        // Happens on nothing but the session of another connection.
        Err(MigrateError::Database(Error::StatementLost(_))) => Err(if pool.has_direct() {
            PoolerError::NoPreparedStatements.into()
        } else {
            PoolerError::NoDirectUrl.into()
        }),
        result => result,
    }
}

async fn checked(pool: &Pool) -> Result<AsyncPgConnection, MigrateError> {
    let mut own = pool.direct().await?;
    let pooled = &mut pool.extra().await?;
    let is_shared = share_sessions(pooled, &mut pool.extra().await?).await?;
    if pool.has_direct() {
        if share_sessions(&mut own, &mut pool.direct().await?).await? {
            return Err(PoolerError::DirectIsPooled.into());
        }
        if !is_same_database(pooled, &mut own).await? {
            return Err(PoolerError::OtherDatabase.into());
        }
        let (pooled_user, direct_user) = (
            user(pooled).await.map_err(Error::from)?,
            user(&mut own).await.map_err(Error::from)?,
        );
        if pooled_user != direct_user {
            return Err(MigrateError::Pooler(PoolerError::OtherUser {
                pooled: pooled_user,
                direct: direct_user,
            }));
        }
        warn_without_limit(pool, pooled).await?;
    } else if is_shared {
        return Err(PoolerError::NoDirectUrl.into());
    }
    pool.set_unlimited(&mut own).await?;
    Ok(own)
}

/// Finds out whether two connections share the server's sessions: inside a transaction, `second` is
/// then given the session that `first` used before. Now `first` must use another one, on which its
/// statement was never prepared, and fails with [`Error::StatementLost`] if the pooler does not see
/// to that.
async fn share_sessions(first: &mut AsyncPgConnection, second: &mut AsyncPgConnection) -> Result<bool, Error> {
    let probe = Uuid::new_v4().simple().to_string();
    let process = async |conn: &mut AsyncPgConnection| process(conn, &probe).await;
    let only = process(first).await?;
    for _ in 0..ATTEMPTS {
        let before = process(first).await?;
        if before != only {
            return Ok(true);
        }
        second.batch_execute("BEGIN").await?;
        if process(second).await? != before {
            second.batch_execute("COMMIT").await?;
            continue;
        }
        let mut again = pin!(process(first));
        let answer = tokio::time::timeout(SECOND_SESSION, &mut again).await;
        second.batch_execute("COMMIT").await?;
        match answer {
            Ok(answer) => answer?,
            Err(_elapsed) => again.await?,
        };
        return Ok(true);
    }
    Ok(false)
}

/// The server's process behind a connection, asked by a statement that the connection prepares
/// once. The answer repeats the probe: without it, the statement was one of the same name that
/// another process had left behind.
async fn process(conn: &mut AsyncPgConnection, probe: &str) -> Result<i32, Error> {
    let process = prepared::<(Integer, Text)>(format!("SELECT pg_backend_pid(), '{probe}'"));
    let (process, answer): (i32, String) = bounded(Some(ANSWER), process.get_result(conn)).await?;
    if answer == probe {
        Ok(process)
    } else {
        Err(Error::StatementLost(
            "it answered another statement's question".to_owned(),
        ))
    }
}

/// The role that a connection has.
async fn user(conn: &mut AsyncPgConnection) -> QueryResult<String> {
    let user = prepared::<Text>("SELECT current_user::text");
    bounded(Some(ANSWER), user.get_result(conn)).await
}

/// Whether a lock taken on one connection is seen on the other.
async fn is_same_database(pooled: &mut AsyncPgConnection, dedicated: &mut AsyncPgConnection) -> Result<bool, Error> {
    let key = Uuid::new_v4().as_u64_pair().0.cast_signed();
    let lock = diesel::sql_query("SELECT pg_advisory_lock($1)").bind::<BigInt, _>(key);
    bounded(Some(ANSWER), lock.execute(dedicated)).await?;
    let held = prepared::<Bool>(
        "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database \
         WHERE datname = current_database() AND locktype = 'advisory' AND objsubid = 1 \
         AND (classid::bigint << 32 | objid::bigint) = ",
    );
    let held = held.bind::<BigInt, _>(key).text(")");
    let is_held = bounded(Some(ANSWER), held.get_result(pooled)).await?;
    let unlock = diesel::sql_query("SELECT pg_advisory_unlock($1)").bind::<BigInt, _>(key);
    bounded(Some(ANSWER), unlock.execute(dedicated)).await?;
    Ok(is_held)
}

/// Warns if the server sets no limit on statements outside of transactions. Those inside get theirs
/// from the transaction.
async fn warn_without_limit(pool: &Pool, pooled: &mut AsyncPgConnection) -> Result<(), Error> {
    let limit = prepared::<(BigInt, Text)>(
        "SELECT setting::bigint, quote_ident(current_user) FROM pg_settings WHERE name = 'statement_timeout'",
    );
    let (milliseconds, role): (i64, String) = bounded(Some(ANSWER), limit.get_result(pooled)).await?;
    let wanted = pool.statement_timeout();
    let is_limited = u128::try_from(milliseconds).is_ok_and(|limit| limit > 0 && limit <= wanted.as_millis());
    if !is_limited {
        tracing::warn!(
            "through the pooler, statements can run for longer than --database-statement-seconds: run ALTER ROLE \
             {role} SET statement_timeout = '{}s', then reconnect the pooler",
            wanted.as_secs(),
        );
    }
    Ok(())
}
