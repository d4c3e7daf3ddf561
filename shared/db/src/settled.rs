//! Checks whether the time is reliable enough for irreversible actions, including the clock of the
//! database server.

use std::time::Duration;

use base::{
    clock::{ALLOWANCE, Clock, Settled, Timestamp},
    running::Running,
};
use diesel_async::RunQueryDsl as _;
use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::{Backend, Conn, Db, Raw, Result, sql_types};
use crate::here;

/// Interval at which the clock is checked, so that a jump is reported soon.
const INTERVAL: Duration = Duration::from_secs(5);

const SETTLED: &str = "clock_settled";
const STEPS: &str = "clock_steps_total";

#[derive(diesel::QueryableByName)]
struct ServerTime {
    #[diesel(sql_type = sql_types::Timestamp)]
    now: Timestamp,
}

impl Conn {
    /// Returns the current time if it is reliable enough for irreversible actions. This process's
    /// wall clock must have run steadily for [`SETTLING`](base::clock::SETTLING). On PostgreSQL,
    /// the server's clock must also agree within [`ALLOWANCE`]; checking that costs one query,
    /// which may be part of a transaction.
    pub async fn settled(&mut self, clock: &Clock) -> Result<Option<Settled>> {
        if clock.steady().is_none() || !self.agrees(clock).await? {
            return Ok(None);
        }
        // The clock is checked again because it may have been set during the query.
        Ok(clock.steady())
    }

    /// Returns whether the server's clock agrees within [`ALLOWANCE`]. Logs when the clocks begin
    /// to differ, and when they agree again.
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
    /// Calls [`Conn::settled`] on a connection of its own.
    pub async fn settled(&self, clock: &Clock) -> Result<Option<Settled>> {
        // While the process's own clock has not settled, no query is needed.
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
            "Whether the clock can be relied on: 1 if it can, else 0. It is 0 within 15 minutes after a start or a \
             jump, and while the database server's clock differs by more than 30 seconds. While it is 0, nothing \
             is deleted, ended or forfeited by time."
        );
        describe_counter!(
            STEPS,
            "Number of times that the wall clock jumped by more than 30 seconds."
        );
        let (db, clock) = (self.clone(), clock.clone());
        running.follow("clock", async move {
            loop {
                counter!(STEPS).absolute(clock.steps());
                // A database that does not answer says nothing about the clock, and is reported
                // elsewhere. The server's clock is checked even before this process's clock has
                // settled, so that a wrong clock is reported from the start.
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
