//! Detection of servers that accept no writes, and of connections that still lead to them after a
//! fail-over.

use std::time::Instant;

use diesel::{QueryResult, sql_types::Bool};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use parking_lot::{Mutex, MutexGuard};

use super::prepared;

/// Moment at which a server was last found to accept no writes. Connections made before that moment
/// are not reused, because after a fail-over all of them lead to the same server.
#[derive(Debug, Default)]
pub(super) struct Distrust(Mutex<Option<Instant>>);

impl Distrust {
    pub(super) fn begin(&self) {
        *self.since() = Some(Instant::now());
    }

    /// Returns whether a connection made at this moment must be closed.
    pub(super) fn includes(&self, made: Instant) -> bool {
        self.since().is_some_and(|since| made <= since)
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        // A panic cannot leave the value half updated, so nothing has to be repaired.
        self.0.lock()
    }
}

/// Checks whether the server is in recovery, or whether its transactions are read-only for another
/// reason.
pub(super) async fn read_only(conn: &mut AsyncPgConnection) -> QueryResult<bool> {
    let question = prepared::<Bool>("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool");
    question.get_result(conn).await
}
