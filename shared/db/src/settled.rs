//! Whether the time can be relied on for what cannot be taken back, the database server's clock
//! included.

use std::time::Duration;

use base::{
    clock::{ALLOWANCE, Clock, Settled, Timestamp},
    running::Running,
};
use diesel_async::RunQueryDsl as _;
use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::{Backend, Conn, Db, Raw, Result, sql_types};
use crate::here;

/// The clock is looked at this often, so that a jump is told of soon.
const INTERVAL: Duration = Duration::from_secs(5);

const SETTLED: &str = "clock_settled";
const STEPS: &str = "clock_steps_total";

#[derive(diesel::QueryableByName)]
struct ServerTime {
    #[diesel(sql_type = sql_types::Timestamp)]
    now: Timestamp,
}

impl Conn {
    /// The present moment if it may be used for what cannot be taken back: this process's wall
    /// clock has gone right for [`SETTLING`](base::clock::SETTLING), and on PostgreSQL the server's
    /// clock agrees within [`ALLOWANCE`]. Costs one query there, which may run in a transaction.
    pub async fn settled(&mut self, clock: &Clock) -> Result<Option<Settled>> {
        if clock.steady().is_none() || !self.agrees(clock).await? {
            return Ok(None);
        }
        // Once more, since the clock may have been set meanwhile.
        Ok(clock.steady())
    }

    /// Whether the server's clock agrees within [`ALLOWANCE`]. Warns if it begins to differ, and if
    /// it agrees again.
    async fn agrees(&mut self, clock: &Clock) -> Result<bool> {
        let before = clock.now();
        if self.backend() == Backend::Postgres {
            let server = match clock.steered_server_time() {
                Some(time) => time,
                None => self.server_time().await?,
            };
            let after = clock.now();
            let disagreement = if server < before.minus(ALLOWANCE) {
                Some(server.as_micros() - before.as_micros())
            } else if server > after.plus(ALLOWANCE) {
                Some(server.as_micros() - after.as_micros())
            } else {
                None
            };
            clock.note_server_time(disagreement);
            return Ok(disagreement.is_none());
        }
        Ok(true)
    }

    /// Reads the clock of the PostgreSQL server.
    pub(super) async fn server_time(&mut self) -> Result<Timestamp> {
        let (raw, statement) = self.start(here!());
        let result = match raw {
            Raw::Sqlite(_) => Err(diesel::result::Error::NotFound),
            Raw::Postgres(c) => {
                let ask = diesel::sql_query("SELECT clock_timestamp() AS now");
                statement.run(ask.get_result::<ServerTime>(c)).await
            }
        };
        statement.end(result).map(|server| server.now)
    }
}

impl Db {
    /// [`Conn::settled`] on a connection of its own.
    pub async fn settled(&self, clock: &Clock) -> Result<Option<Settled>> {
        // Most often the answer is no without a query.
        if clock.steady().is_none() {
            return Ok(None);
        }
        self.read().await?.settled(clock).await
    }

    /// Watches the clock until the stop token is cancelled: warns of each jump, and reports whether
    /// it is settled.
    pub fn watch_clock(&self, clock: &Clock, running: &Running) {
        base::telemetry::metrics::recorder();
        describe_gauge!(
            SETTLED,
            "Whether the clock can be relied on: 0 within 15 minutes of the start or of a jump, and while the database \
             server's clock differs by more than 30 seconds. Nothing is deleted, ended or forfeited by time meanwhile."
        );
        describe_counter!(STEPS, "Jumps of the wall clock by more than 30 seconds.");
        let (db, clock) = (self.clone(), clock.clone());
        running.follow("clock", async move {
            loop {
                counter!(STEPS).absolute(clock.steps());
                // A database that does not answer says nothing about the clock; others report it.
                // The server's clock is asked also while this one has not settled: a wrong clock is
                // told of from the start.
                let agrees = async { db.read().await?.agrees(&clock).await };
                if let Ok(agrees) = agrees.await {
                    let is_settled = agrees && clock.steady().is_some();
                    gauge!(SETTLED).set(if is_settled { 1.0 } else { 0.0 });
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
    }
}
