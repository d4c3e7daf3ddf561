//! A connection out of a pool, and what is known of its state.
//!
//! A statement that was cut off, by a cancelled call or by a time limit, leaves the connection in
//! the middle of an answer. Such a connection is closed when it is dropped, instead of going back
//! to the pool.

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

/// A connection to a file.
pub(super) type SqliteConn = SyncConnectionWrapper<SqliteConnection, InPlace>;

/// A connection to either database, on which [`query!`](crate::query) runs.
pub struct Conn {
    /// Taken only by `drop`.
    pooled: Option<Pooled>,
    state: State,
}

pub(super) enum Pooled {
    Sqlite(Object<SqliteConn>),
    Postgres(Box<Object<AsyncPgConnection>>),
}

struct State {
    /// A statement began and its end was not seen.
    unsettled: bool,
    /// A statement of this transaction failed in the database.
    failed: bool,
    limit: Option<Duration>,
    /// Where its statements wait.
    wait: Wait,
    /// Channels to wake when the transaction has committed, and the number that each was notified
    /// of last.
    wake: Vec<(&'static str, i64)>,
    /// What to announce when the transaction has committed.
    announce: Vec<(&'static str, Uuid)>,
    /// Flag that is raised when the server turns out to take no writes.
    distrust: Option<Arc<Distrust>>,
    /// Statements that give a transaction its time limits, if the connection itself has none.
    local_limits: Option<Arc<str>>,
}

/// A connection as diesel-async knows it; for [`query!`](crate::query).
pub enum Raw<'a> {
    /// A connection to SQLite.
    Sqlite(&'a mut SqliteConn),
    /// A connection to PostgreSQL.
    Postgres(&'a mut AsyncPgConnection),
}

/// A statement that is on its way; for [`query!`](crate::query).
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
                wait: Wait::Nowhere,
                wake: Vec::new(),
                announce: Vec::new(),
                distrust: None,
                local_limits: None,
            },
        }
    }

    /// The same, with statements that each transaction begins with.
    pub(super) fn with_local_limits(mut self, limits: Option<&Arc<str>>) -> Self {
        self.state.local_limits = limits.cloned();
        self
    }

    /// `begin`, followed by the time limits of the transaction if the connection itself has none:
    /// in one round trip.
    pub(super) fn beginning(&self, begin: &'static str) -> Cow<'static, str> {
        match &self.state.local_limits {
            Some(limits) => Cow::Owned(format!("{begin}; {limits}")),
            None => Cow::Borrowed(begin),
        }
    }

    /// The same, with a place to report that the server takes no writes.
    pub(super) fn reporting_to(mut self, distrust: &Arc<Distrust>) -> Self {
        self.state.distrust = Some(Arc::clone(distrust));
        self
    }

    /// The same for statements that may read much.
    pub(super) fn long(mut self) -> Self {
        self.state.wait = Wait::Long;
        self
    }

    /// The same for statements each of which this disk keeps before it ends, if it writes anything.
    pub(super) fn kept_by(mut self, disk: &Arc<Disk>) -> Self {
        self.state.wait = Wait::Disk(Arc::clone(disk));
        self
    }

    /// Which of the two databases it speaks to.
    pub fn backend(&self) -> Backend {
        match self.pooled {
            Some(Pooled::Sqlite(_)) => Backend::Sqlite,
            Some(Pooled::Postgres(_)) | None => Backend::Postgres,
        }
    }

    /// Announces a statement of the function with this path; for [`query!`](crate::query), which
    /// then runs it and reports its end.
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

    /// A statement of this transaction failed in the database, so that PostgreSQL would turn its
    /// commit into a rollback.
    pub(super) const fn has_failed(&self) -> bool {
        self.state.failed
    }

    /// A statement was cut off, so that nothing more can be asked of this connection.
    pub(super) const fn is_unsettled(&self) -> bool {
        self.state.unsettled
    }

    pub(super) fn wake_after_commit(&mut self, channel: &'static str, number: i64) {
        self.state.wake.retain(|(noted, _)| *noted != channel);
        self.state.wake.push((channel, number));
    }

    pub(super) fn announce_after_commit(&mut self, channel: &'static str, key: Uuid) {
        self.state.announce.push((channel, key));
    }

    /// What to announce.
    pub(super) fn take_announcements(&mut self) -> Vec<(&'static str, Uuid)> {
        std::mem::take(&mut self.state.announce)
    }

    /// The channels to wake.
    pub(super) fn take_wake(&mut self) -> Vec<(&'static str, i64)> {
        std::mem::take(&mut self.state.wake)
    }

    /// Asks whether the database answers and takes writes.
    pub(super) async fn ping(&mut self) -> Result<()> {
        let (raw, statement) = self.start(|| "ping");
        let is_read_only = match raw {
            Raw::Sqlite(c) => statement.run(c.batch_execute("SELECT 1")).await.map(|()| false),
            Raw::Postgres(c) => statement.run(read_only(c)).await,
        };
        if statement.end(is_read_only)? {
            return Err(self.takes_no_writes());
        }
        Ok(())
    }

    /// Notes that its server is in recovery, which a query of the caller has found out: neither
    /// this connection nor one that was made before is used again.
    pub fn takes_no_writes(&mut self) -> Error {
        self.state.mark_read_only();
        Error::ReadOnly(STANDBY.to_owned())
    }
}

impl State {
    /// Closes this connection once it is dropped, and all others of its pool that were made before.
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
    /// Runs it, within its time.
    #[doc(hidden)]
    pub fn run<T, F: Future<Output = QueryResult<T>>>(
        &self,
        statement: F,
    ) -> impl Future<Output = QueryResult<T>> + use<T, F> {
        self.run_within(self.state.limit, statement)
    }

    /// Runs it, within this time; `None` where the database itself sees to that.
    pub(super) fn run_within<T, F: Future<Output = QueryResult<T>>>(
        &self,
        limit: Option<Duration>,
        statement: F,
    ) -> impl Future<Output = QueryResult<T>> + use<T, F> {
        Waiting::new(bounded(limit, statement), self.state.wait.clone()).instrument(self.span.clone())
    }

    /// Notes how it ended.
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

/// The span of a statement of the function with this path. What a job does by itself is part of no
/// call, and would be a trace of its own each time.
fn span(backend: Backend, path: impl FnOnce() -> &'static str) -> Span {
    // In this order: `enabled!` leaves its verdict with the thread for the span that comes next,
    // and if that is another one than ours, such as a call's, the log has lost it.
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

/// The function that a name like `store::user_by_id::{{closure}}::here` lies in.
fn function(path: &'static str) -> &'static str {
    let outer = path.split("::{{closure}}").next().unwrap_or(path);
    let outer = outer.strip_suffix("::here").unwrap_or(outer);
    outer.rsplit("::").next().unwrap_or(outer)
}

/// Waits for a statement, but not for ever. Not an `async fn`, which would keep the statement's
/// future twice.
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
