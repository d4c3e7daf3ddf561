//! Start-up checks of a pooler between a service and PostgreSQL. The pooler must preserve
//! everything that the service relies on.
//!
//! A pooler in transaction mode, such as PgBouncer, may run each transaction on another of its
//! connections to the server. Anything tied to a session is then lost: LISTEN, advisory locks and
//! `SET`. The services use a connection past the pooler for these. Prepared statements are tied to
//! a session as well; PgBouncer has carried them over since version 1.21.

use std::{pin::pin, time::Duration};

use diesel::{
    QueryResult,
    sql_types::{BigInt, Bool, Integer, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use uuid::Uuid;

use super::{Error, MigrateError, PoolerError, conn::bounded, postgres::Pool, prepared};

/// Attempts to observe two connections that share a session. A pooler under load may give the
/// second connection another session.
const ATTEMPTS: u32 = 3;

/// Time for a pooler to provide a second session. A pooler that has no second session cannot mix up
/// sessions.
const SECOND_SESSION_TIMEOUT: Duration = Duration::from_secs(1);

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns a connection with its own session. Refuses a pooler that would lose state tied to a
/// session.
pub(super) async fn own_session(pool: &Pool) -> Result<AsyncPgConnection, MigrateError> {
    match checked(pool).await {
        // This error occurs only if the statement ran on another connection's session.
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

/// Checks whether two connections share the server's sessions. A transaction on `second` takes over
/// the session that `first` used before, so `first` has to use another one. Its statement was never
/// prepared there. Unless the pooler takes care of that, the statement fails with
/// [`Error::StatementLost`].
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
        let answer = tokio::time::timeout(SECOND_SESSION_TIMEOUT, &mut again).await;
        second.batch_execute("COMMIT").await?;
        match answer {
            Ok(answer) => answer?,
            Err(_elapsed) => again.await?,
        };
        return Ok(true);
    }
    Ok(false)
}

/// Returns the id of the server process behind a connection, using a statement that the connection
/// prepares once. The answer must repeat the probe. Otherwise the server ran a statement of the
/// same name that another process had left behind.
async fn process(conn: &mut AsyncPgConnection, probe: &str) -> Result<i32, Error> {
    let process = prepared::<(Integer, Text)>(format!("SELECT pg_backend_pid(), '{probe}'"));
    let (process, answer): (i32, String) = bounded(Some(ANSWER_TIMEOUT), process.get_result(conn)).await?;
    if answer == probe {
        Ok(process)
    } else {
        Err(Error::StatementLost(
            "it answered another statement's question".to_owned(),
        ))
    }
}

/// Returns the role that a connection is logged in as.
async fn user(conn: &mut AsyncPgConnection) -> QueryResult<String> {
    let user = prepared::<Text>("SELECT current_user::text");
    bounded(Some(ANSWER_TIMEOUT), user.get_result(conn)).await
}

/// Checks whether a lock taken on one connection is visible on the other.
async fn is_same_database(pooled: &mut AsyncPgConnection, dedicated: &mut AsyncPgConnection) -> Result<bool, Error> {
    let key = Uuid::new_v4().as_u64_pair().0.cast_signed();
    let lock = diesel::sql_query("SELECT pg_advisory_lock($1)").bind::<BigInt, _>(key);
    bounded(Some(ANSWER_TIMEOUT), lock.execute(dedicated)).await?;
    let held = prepared::<Bool>(
        "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database \
         WHERE datname = current_database() AND locktype = 'advisory' AND objsubid = 1 \
         AND (classid::bigint << 32 | objid::bigint) = ",
    );
    let held = held.bind::<BigInt, _>(key).text(")");
    let is_held = bounded(Some(ANSWER_TIMEOUT), held.get_result(pooled)).await?;
    let unlock = diesel::sql_query("SELECT pg_advisory_unlock($1)").bind::<BigInt, _>(key);
    bounded(Some(ANSWER_TIMEOUT), unlock.execute(dedicated)).await?;
    Ok(is_held)
}

/// Warns if the server sets no limit on statements outside of transactions. Statements inside get
/// their limit from the transaction.
async fn warn_without_limit(pool: &Pool, pooled: &mut AsyncPgConnection) -> Result<(), Error> {
    let limit = prepared::<(BigInt, Text)>(
        "SELECT setting::bigint, quote_ident(current_user) FROM pg_settings WHERE name = 'statement_timeout'",
    );
    let (milliseconds, role): (i64, String) = bounded(Some(ANSWER_TIMEOUT), limit.get_result(pooled)).await?;
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
