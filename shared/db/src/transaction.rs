//! Write transactions, which a cancelled call can neither tear apart nor leave open.

use std::time::Duration;

use diesel::connection::{AnsiTransactionManager as SyncTransactions, TransactionManager as _};
use diesel_async::{AnsiTransactionManager, TransactionManager as _};
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::{Conn, Error, Raw, Result, notify::Hub, sqlite::Pools};

/// Time limit for rolling back an abandoned transaction on PostgreSQL. After that, its connection
/// is closed instead.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(5);

/// An open write transaction. It rolls back if it is dropped without [`commit`](Self::commit).
pub struct Transaction {
    /// `None` once the transaction has ended.
    conn: Option<Conn>,
    hub: Hub,
    /// The file on SQLite. It keeps other processes out until a running commit has ended.
    file: Option<Pools>,
}

/// A read-only connection that sees the database at a single moment.
pub struct Snapshot(Option<Conn>);

impl Transaction {
    pub(super) async fn begin(mut conn: Conn, hub: Hub, file: Option<Pools>) -> Result<Self> {
        let begin = conn.begin_statements("BEGIN");
        let (raw, statement) = conn.start(|| "BEGIN");
        let result = match raw {
            // A deferred transaction can fail with BUSY when it turns into a write, whatever the
            // timeout is.
            Raw::Sqlite(c) => {
                let begin = c.spawn_blocking(|c| SyncTransactions::begin_transaction_sql(c, "BEGIN IMMEDIATE"));
                statement.run(begin).await
            }
            Raw::Postgres(c) => {
                statement
                    .run(AnsiTransactionManager::begin_transaction_sql(c, &begin))
                    .await
            }
        };
        statement.end(result)?;
        Ok(Self {
            conn: Some(conn),
            hub,
            file,
        })
    }

    /// Returns the connection on which the transaction's queries run.
    pub fn conn(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("only commit, rollback and drop take it")
    }

    /// Commits. Once begun, the commit completes even if the caller is cancelled.
    ///
    /// A transaction in which a statement failed cannot be committed on either backend, and ends
    /// with [`Error::Internal`]. PostgreSQL by itself would silently roll it back.
    pub async fn commit(mut self) -> Result<()> {
        let Some(conn) = self.conn.take() else { return Ok(()) };
        let (hub, file) = (self.hub.clone(), self.file.take());
        // On a quick disk, the commit itself completes within the first poll. Only the work after
        // it, such as waiting for `settle_commits`, may have to continue in its own task.
        let is_quick = file.as_ref().is_some_and(|file| file.disk().is_quick());
        let commit = async move {
            if conn.has_failed() || conn.is_unsettled() {
                roll_back(conn).await;
                return Err(Error::Internal("a statement failed before the commit".into()));
            }
            commit(conn, &hub, file.as_ref()).await
        };
        let mut commit = Box::pin(commit.in_current_span());
        if is_quick && let Some(result) = commit.as_mut().now_or_never() {
            return result;
        }
        match tokio::spawn(commit).await {
            Ok(result) => result,
            Err(error) => Err(Error::Internal(Box::new(error))),
        }
    }

    /// Rolls back. If that fails, the connection is closed, which has the same effect.
    pub async fn rollback(mut self) {
        if let Some(conn) = self.conn.take() {
            roll_back(conn).await;
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        // Without a runtime, the pool notices the open transaction when it hands the connection out
        // again.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(roll_back(conn).in_current_span());
        }
    }
}

impl Snapshot {
    pub(super) async fn begin(mut conn: Conn) -> Result<Self> {
        let begin = conn.begin_statements("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        let (raw, statement) = conn.start(|| "BEGIN");
        let result = match raw {
            // On SQLite, the first read determines the moment.
            Raw::Sqlite(c) => c.spawn_blocking(SyncTransactions::begin_transaction).await,
            Raw::Postgres(c) => {
                statement
                    .run(AnsiTransactionManager::begin_transaction_sql(c, &begin))
                    .await
            }
        };
        statement.end(result)?;
        Ok(Self(Some(conn)))
    }

    /// Returns the connection on which the queries run.
    pub fn conn(&mut self) -> &mut Conn {
        self.0.as_mut().expect("only drop takes it")
    }

    /// Ends the snapshot, and returns its connection to the pool.
    pub async fn end(mut self) {
        if let Some(conn) = self.0.take() {
            roll_back(conn).await;
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let (Some(conn), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(roll_back(conn).in_current_span());
        }
    }
}

async fn commit(conn: Conn, hub: &Hub, file: Option<&Pools>) -> Result<()> {
    let mut conn = match file {
        Some(file) => conn.writing_to(file.disk()),
        None => conn,
    };
    let (wake, settle, announcements) = (conn.take_wake(), conn.take_settle(), conn.take_announcements());
    let (raw, statement) = conn.start(|| "COMMIT");
    let result = match raw {
        Raw::Sqlite(c) => {
            statement
                .run(c.spawn_blocking(SyncTransactions::commit_transaction))
                .await
        }
        Raw::Postgres(c) => statement.run(AnsiTransactionManager::commit_transaction(c)).await,
    };
    statement.end(result)?;
    // The connection is released first, because a woken subscriber may need it.
    drop(conn);
    for (channel, key) in announcements {
        hub.announce(channel, key);
    }
    for (channel, _) in &wake {
        hub.wake(channel);
    }
    for (channel, number) in wake.into_iter().chain(settle) {
        hub.settle(channel, number).await;
    }
    Ok(())
}

async fn roll_back(mut conn: Conn) {
    if conn.is_unsettled() {
        return;
    }
    let (raw, statement) = conn.start(|| "ROLLBACK");
    let result = match raw {
        Raw::Sqlite(c) => c.spawn_blocking(SyncTransactions::rollback_transaction).await,
        Raw::Postgres(c) => {
            let rollback = AnsiTransactionManager::rollback_transaction(c);
            statement.run_within(Some(ROLLBACK_TIMEOUT), rollback).await
        }
    };
    if let Err(error) = statement.end(result) {
        tracing::debug!(%error, "closed a connection to end its transaction");
    }
}
