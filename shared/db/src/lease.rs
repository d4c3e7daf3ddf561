//! Leases for work that only one process at a time should do.

use std::time::Duration;

use diesel::sql_types::{BigInt, Bool};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};

use super::{Db, Error, Result, database::Connections};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Right to do something that only one process at a time should do. The lease ends when it is
/// dropped, or when the process ends.
///
/// A lease avoids duplicate work, but it is not a lock: if the connection to the database breaks,
/// another process can take over the lease before this one notices.
pub struct Lease(Option<Box<AsyncPgConnection>>);

#[derive(diesel::QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

impl Db {
    /// Takes the lease with this key. Returns `None` if another process holds it. A SQLite file is
    /// served by one process, which always gets the lease.
    pub async fn try_lease(&self, key: i64) -> Result<Option<Lease>> {
        let Connections::Postgres(pool) = self.connections() else {
            return Ok(Some(Lease(None)));
        };
        // The lease is a session-level advisory lock (manual, "Advisory Locks"). A pooled
        // connection would keep it after the lease has ended, so the lease has its own connection.
        let mut conn = pool.dedicated().await?;
        let lock = diesel::sql_query("SELECT pg_try_advisory_lock($1) AS locked").bind::<BigInt, _>(key);
        let answer = tokio::time::timeout(ANSWER_WITHIN, lock.get_result(&mut conn)).await;
        let Locked { locked } = answer.map_err(|_| Error::Unavailable("no answer to a lease".to_owned()))??;
        Ok(locked.then(|| Lease(Some(Box::new(conn)))))
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&self.0.is_some()).finish()
    }
}
