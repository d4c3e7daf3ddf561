//! Buffers of PostgreSQL that statements touch: pages of 8 KiB, in its cache or not.

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Double, Text},
};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};

/// Counts the buffers that the statements in one database touch.
pub(super) struct Meter {
    conn: AsyncPgConnection,
}

/// All executions of one statement.
#[derive(Clone, Debug, QueryableByName)]
pub(super) struct Statement {
    #[diesel(sql_type = Text)]
    pub(super) query: String,
    #[diesel(sql_type = BigInt)]
    pub(super) calls: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) rows: i64,
    #[diesel(sql_type = Double)]
    pub(super) buffers: f64,
}

/// Buffers that were touched for each call or row.
#[derive(Clone, Debug)]
pub(super) struct Touched {
    pub(super) buffers: f64,
    /// Name of one of the calls or rows, with its article.
    pub(super) unit: &'static str,
    statements: Vec<Statement>,
}

impl Meter {
    /// Connects to a database whose server has loaded `pg_stat_statements`.
    pub(super) async fn open(url: &str) -> Self {
        let mut conn = AsyncPgConnection::establish(url).await.expect("connect");
        let created = conn
            .batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            .await;
        created.expect("PostgreSQL has pg_stat_statements, which comes with it");
        let mut meter = Self { conn };
        meter.reset().await;
        meter
    }

    /// Forgets all statements so far.
    pub(super) async fn reset(&mut self) {
        let reset = "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database \
                     WHERE datname = current_database()), 0)";
        let reset = self.conn.batch_execute(reset).await;
        reset.expect("the server has shared_preload_libraries = pg_stat_statements");
    }

    /// Returns all statements in this database since the last reset.
    pub(super) async fn statements(&mut self) -> Vec<Statement> {
        let select = "SELECT replace(query, '  ', ' ') AS query, calls, rows, \
                      (shared_blks_hit + shared_blks_read)::float8 AS buffers \
                      FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid \
                      WHERE datname = current_database() AND query NOT LIKE '%pg_stat_statements%' \
                      ORDER BY buffers DESC";
        let statements = diesel::sql_query(select).load(&mut self.conn).await;
        statements.expect("the statements")
    }

    /// Runs `calls` calls one after the other, and returns the buffers that each touched.
    pub(super) async fn each(&mut self, calls: u64, mut call: impl AsyncFnMut(u64)) -> Touched {
        self.reset().await;
        for number in 0..calls {
            call(number).await;
        }
        Touched::of(self.statements().await, f64_of(calls), "a call")
    }

    /// Returns the connection, for statements that are not counted.
    pub(super) const fn conn(&mut self) -> &mut AsyncPgConnection {
        &mut self.conn
    }
}

impl Touched {
    /// Divides the buffers of these statements by a number of calls or rows.
    pub(super) fn of(statements: Vec<Statement>, by: f64, unit: &'static str) -> Self {
        let all: f64 = statements.iter().map(|statement| statement.buffers).sum();
        Self {
            buffers: all / by.max(1.0),
            unit,
            statements,
        }
    }

    /// Prints the statements that touched the most.
    pub(super) fn explain(&self, size: &str) {
        for statement in self.statements.iter().take(4) {
            let text: String = statement.query.chars().take(150).collect();
            println!(
                "         {size}: {:.0} buffers in {} calls, {} rows: {}",
                statement.buffers,
                statement.calls,
                statement.rows,
                text.replace('\n', " ")
            );
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(super) const fn f64_of(number: u64) -> f64 {
    number as f64
}
