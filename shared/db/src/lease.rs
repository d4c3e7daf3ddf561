//! What one process at a time does.

use std::time::Duration;

use diesel::sql_types::{BigInt, Bool};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};

use super::{Db, Error, Result, database::Connections};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The right to do something that one process at a time shall do. It ends when it is dropped, and
/// with the process.
///
/// It saves work and is no lock: where the connection to the database breaks, another process has
/// it before this one knows.
pub struct Lease(Option<Box<AsyncPgConnection>>);

#[derive(diesel::QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

impl Db {
    /// The lease with this key, unless another process has it. A SQLite file has one process, which
    /// always gets it.
    pub async fn try_lease(&self, key: i64) -> Result<Option<Lease>> {
        let Connections::Postgres(pool) = self.connections() else {
            return Ok(Some(Lease(None)));
        };
        // An advisory lock of the session (manual, "Advisory Locks"), which a connection of the
        // pool would keep.
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
