//! A pooled connection, and what is known of its state.
//!
//! A statement that is interrupted, by a cancelled call or a time limit, leaves its connection in
//! the middle of an answer. Such a connection is closed when it is dropped instead of returning to
//! the pool.

use std::{borrow::Cow, future::Future, sync::Arc, time::Duration};

use base::telemetry::traces;
use diesel::{
    QueryResult, SqliteConnection,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::{
    AsyncPgConnection, SimpleAsyncConnection as _, pooled_connection::deadpool::Object,
    sync_connection_wrapper::SyncConnectionWrapper,
};
use futures_util::{FutureExt as _, future::Either};
use tracing::{Instrument as _, Level, Span, field::Empty};
use uuid::Uuid;

use super::{
    Backend, Error, Result,
    connector::STANDBY,
    fail_over::{Distrust, read_only},
    in_place::{Disk, InPlace, Wait, Waiting},
};

/// A connection to a SQLite file.
pub(super) type SqliteConn = SyncConnectionWrapper<SqliteConnection, InPlace>;

/// A connection to either database, on which [`query!`](crate::query) runs.
pub struct Conn {
    /// Taken by `drop` only.
    pooled: Option<Pooled>,
    state: State,
}

pub(super) enum Pooled {
    Sqlite(Object<SqliteConn>),
    Postgres(Box<Object<AsyncPgConnection>>),
}

struct State {
    /// Whether a statement has begun and its end has not been seen.
    unsettled: bool,
    /// Whether a statement of this transaction failed in the database.
    failed: bool,
    limit: Option<Duration>,
    /// Reason why the statements may block their thread.
    wait: Wait,
    /// Channels to wake once the transaction has committed, each with the number of its last
    /// notification.
    wake: Vec<(&'static str, i64)>,
    /// Channels on whose settling the commit waits, although the transaction does not notify them.
    settle: Vec<(&'static str, i64)>,
    /// Channels and keys to announce once the transaction has committed.
    announce: Vec<(&'static str, Uuid)>,
    /// Flag to raise when the server turns out to accept no writes.
    distrust: Option<Arc<Distrust>>,
    /// Statements that set the time limits of a transaction, if the session itself has none.
    local_limits: Option<Arc<str>>,
}

/// A diesel-async connection; for [`query!`](crate::query).
pub enum Raw<'a> {
    /// A connection to SQLite.
    Sqlite(&'a mut SqliteConn),
    /// A connection to PostgreSQL.
    Postgres(&'a mut AsyncPgConnection),
}

/// A running statement; for [`query!`](crate::query).
pub struct Statement<'a> {
    state: &'a mut State,
    span: Span,
}

impl Conn {
    pub(super) fn new(pooled: Pooled, limit: Option<Duration>) -> Self {
        Self {
            pooled: Some(pooled),
            state: State {
                unsettled: false,
                failed: false,
                limit,
                wait: Wait::Never,
                wake: Vec::new(),
                settle: Vec::new(),
                announce: Vec::new(),
                distrust: None,
                local_limits: None,
            },
        }
    }

    /// Sets statements that every transaction begins with.
    pub(super) fn with_local_limits(mut self, limits: Option<&Arc<str>>) -> Self {
        self.state.local_limits = limits.cloned();
        self
    }

    /// Returns `begin`, followed by the time limits of the transaction if the session itself has
    /// none. All are sent in one round trip.
    pub(super) fn begin_statements(&self, begin: &'static str) -> Cow<'static, str> {
        match &self.state.local_limits {
            Some(limits) => Cow::Owned(format!("{begin}; {limits}")),
            None => Cow::Borrowed(begin),
        }
    }

    /// Sets the flag that is raised when the server accepts no writes.
    pub(super) fn reporting_to(mut self, distrust: &Arc<Distrust>) -> Self {
        self.state.distrust = Some(Arc::clone(distrust));
        self
    }

    /// Prepares the connection for statements that may read a lot.
    pub(super) fn for_long_reads(mut self) -> Self {
        self.state.wait = Wait::Long;
        self
    }

    /// Prepares the connection for statements that write to this disk and end only once the data is
    /// stored.
    pub(super) fn writing_to(mut self, disk: &Arc<Disk>) -> Self {
        self.state.wait = Wait::Disk(Arc::clone(disk));
        self
    }

    /// Returns the backend of the connection.
    pub fn backend(&self) -> Backend {
        match self.pooled {
            Some(Pooled::Sqlite(_)) => Backend::Sqlite,
            Some(Pooled::Postgres(_)) | None => Backend::Postgres,
        }
    }

    /// Begins a statement of the function with the path that `name` returns. For
    /// [`query!`](crate::query), which then runs the statement and reports its end.
    #[doc(hidden)]
    pub fn start(&mut self, name: impl FnOnce() -> &'static str) -> (Raw<'_>, Statement<'_>) {
        self.state.unsettled = true;
        let span = span(self.backend(), name);
        let raw = match self.pooled.as_mut().expect("only drop takes it") {
            Pooled::Sqlite(object) => Raw::Sqlite(object),
            Pooled::Postgres(object) => Raw::Postgres(object),
        };
        let statement = Statement {
            state: &mut self.state,
            span,
        };
        (raw, statement)
    }

    /// Returns whether a statement of this transaction failed in the database, so that PostgreSQL
    /// would turn a commit into a rollback.
    pub(super) const fn has_failed(&self) -> bool {
        self.state.failed
    }

    /// Returns whether a statement was interrupted, so that the connection cannot be used any more.
    pub(super) const fn is_unsettled(&self) -> bool {
        self.state.unsettled
    }

    pub(super) fn wake_after_commit(&mut self, channel: &'static str, number: i64) {
        self.state.wake.retain(|(noted, _)| *noted != channel);
        self.state.wake.push((channel, number));
    }

    pub(super) fn settle_after_commit(&mut self, channel: &'static str, number: i64) {
        self.state.settle.push((channel, number));
    }

    pub(super) fn announce_after_commit(&mut self, channel: &'static str, key: Uuid) {
        self.state.announce.push((channel, key));
    }

    /// Takes the channels and keys to announce.
    pub(super) fn take_announcements(&mut self) -> Vec<(&'static str, Uuid)> {
        std::mem::take(&mut self.state.announce)
    }

    /// Takes the channels to settle without a notification, with their numbers.
    pub(super) fn take_settle(&mut self) -> Vec<(&'static str, i64)> {
        std::mem::take(&mut self.state.settle)
    }

    /// Takes the channels to wake, with their numbers.
    pub(super) fn take_wake(&mut self) -> Vec<(&'static str, i64)> {
        std::mem::take(&mut self.state.wake)
    }

    /// Checks whether the database answers and accepts writes.
    pub(super) async fn ping(&mut self) -> Result<()> {
        let (raw, statement) = self.start(|| "ping");
        let is_read_only = match raw {
            Raw::Sqlite(c) => statement.run(c.batch_execute("SELECT 1")).await.map(|()| false),
            Raw::Postgres(c) => statement.run(read_only(c)).await,
        };
        if statement.end(is_read_only)? {
            return Err(self.reject_as_read_only());
        }
        Ok(())
    }

    /// Records that the server is in recovery, as a query of the caller has found out. This
    /// connection and all older ones of its pool are not reused. Returns the error for the caller.
    pub fn reject_as_read_only(&mut self) -> Error {
        self.state.mark_read_only();
        Error::ReadOnly(STANDBY.to_owned())
    }
}

impl State {
    /// Marks this connection, and all older ones of its pool, to be closed instead of reused.
    fn mark_read_only(&mut self) {
        self.unsettled = true;
        if let Some(distrust) = &self.distrust {
            distrust.begin();
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if !self.state.unsettled {
            return;
        }
        match self.pooled.take() {
            Some(Pooled::Sqlite(object)) => drop(Object::take(object)),
            Some(Pooled::Postgres(object)) => drop(Object::take(*object)),
            None => {}
        }
    }
}

impl Statement<'_> {
    /// Runs the statement within the connection's time limit.
    #[doc(hidden)]
    pub fn run<T, F: Future<Output = QueryResult<T>>>(
        &self,
        statement: F,
    ) -> impl Future<Output = QueryResult<T>> + use<T, F> {
        self.run_within(self.state.limit, statement)
    }

    /// Runs the statement within this time limit; `None` leaves the limit to the database.
    pub(super) fn run_within<T, F: Future<Output = QueryResult<T>>>(
        &self,
        limit: Option<Duration>,
        statement: F,
    ) -> impl Future<Output = QueryResult<T>> + use<T, F> {
        Waiting::new(bounded(limit, statement), self.state.wait.clone()).instrument(self.span.clone())
    }

    /// Records the outcome of the statement.
    #[doc(hidden)]
    pub fn end<T>(self, result: QueryResult<T>) -> Result<T> {
        if let Err(DieselError::DatabaseError(kind, _)) = &result {
            self.span.record("otel.status_code", "ERROR");
            self.state.failed = true;
            self.state.unsettled = matches!(
                kind,
                DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection
            );
            if matches!(kind, DatabaseErrorKind::ReadOnlyTransaction) {
                self.state.mark_read_only();
            }
        } else {
            self.state.unsettled = false;
        }
        result.map_err(Error::from)
    }
}

/// Returns the span of a statement in the function with this path. Outside of a call there is no
/// span: each statement of a background job would otherwise become its own trace.
fn span(backend: Backend, path: impl FnOnce() -> &'static str) -> Span {
    // The order of the checks matters. `enabled!` leaves its verdict on the thread for the next
    // span. If that is another span, such as a call's, the log loses it.
    if Span::current().is_disabled() || !tracing::enabled!(target: traces::SQL, Level::DEBUG) {
        return Span::none();
    }
    let name = function(path());
    tracing::debug_span!(
        target: traces::SQL,
        "sql",
        otel.name = name,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = backend.system_name(),
        db.query.summary = name,
    )
}

/// Returns the function in a path such as `store::user_by_id::{{closure}}::here`.
fn function(path: &'static str) -> &'static str {
    let outer = path.split("::{{closure}}").next().unwrap_or(path);
    let outer = outer.strip_suffix("::here").unwrap_or(outer);
    outer.rsplit("::").next().unwrap_or(outer)
}

/// Returns the error of a query that only PostgreSQL understands; for
/// [`query_postgres!`](crate::query_postgres).
#[doc(hidden)]
pub fn not_on_sqlite() -> DieselError {
    DieselError::QueryBuilderError("SQLite does not understand this query".into())
}

/// Bounds the time of a statement; `None` means no limit. This is not an `async fn`, which would
/// store the statement's future twice.
pub(super) fn bounded<T, F: Future<Output = QueryResult<T>>>(
    limit: Option<Duration>,
    statement: F,
) -> impl Future<Output = QueryResult<T>> {
    let Some(limit) = limit else {
        return Either::Left(statement);
    };
    Either::Right(tokio::time::timeout(limit, statement).map(move |answer| {
        answer.unwrap_or_else(|_| {
            Err(DieselError::DatabaseError(
                DatabaseErrorKind::UnableToSendCommand,
                Box::new(format!("no answer within {} ms", limit.as_millis())),
            ))
        })
    }))
}
