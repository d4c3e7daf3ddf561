//! Baseline: SQL statements in a loop, by diesel-async alone.

use diesel::{Connection as _, SqliteConnection};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _, sync_connection_wrapper::SyncConnectionWrapper,
};

/// A connection to either database.
pub(crate) enum BareConn {
    Sqlite(Box<SyncConnectionWrapper<SqliteConnection>>),
    Postgres(Box<AsyncPgConnection>),
}

/// Runs a statement, which is written once, on either database.
macro_rules! on {
    ($conn:expr, |$c:ident| $statement:expr $(,)?) => {
        match $conn {
            $crate::baseline::bare_sql::BareConn::Sqlite(c) => {
                let $c = &mut **c;
                $statement
            }
            $crate::baseline::bare_sql::BareConn::Postgres(c) => {
                let $c = &mut **c;
                $statement
            }
        }
    };
}

pub(crate) use on;

impl BareConn {
    /// Connects to a database by its URL. A SQLite file is opened with the settings of a service
    /// that must not lose any data.
    pub(crate) async fn open(url: &str) -> Self {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let conn = SqliteConnection::establish(path).expect("open the file");
            let mut conn = SyncConnectionWrapper::new(conn);
            let pragmas = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                           PRAGMA foreign_keys = ON;";
            conn.batch_execute(pragmas).await.expect("pragmas");
            Self::Sqlite(Box::new(conn))
        } else {
            Self::Postgres(Box::new(AsyncPgConnection::establish(url).await.expect("connect")))
        }
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(&mut self) {
        let begin = match self {
            Self::Sqlite(conn) => conn.batch_execute("BEGIN IMMEDIATE").await,
            Self::Postgres(conn) => conn.batch_execute("BEGIN").await,
        };
        begin.expect("BEGIN");
    }

    pub(crate) async fn commit(&mut self) {
        on!(self, |c| c.batch_execute("COMMIT").await).expect("COMMIT");
    }
}
