//! Migrations, embedded in the program and applied by one process at a time.
//!
//! On PostgreSQL, a session-level advisory lock (manual, "Advisory Locks") serializes processes
//! that start at the same moment. The server releases it when the session ends, however the process
//! ended. On SQLite, the lock on the file already admits only one process.

use diesel::{
    migration::{Migration, MigrationSource},
    pg::Pg,
    sql_types::Text,
    sqlite::Sqlite,
};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness};

use super::{Db, Error, MigrateError, Raw, database::Connections, in_place, pooler, prepared, sqlite};

/// Key of the advisory lock: "rustauth" in ASCII. All services can share this key, because each has
/// its own database and advisory locks are local to a database.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"rustauth");

/// Migrations of a service: one tree per backend, with the same names in both.
pub struct Migrations {
    /// `embed_migrations!("migrations/sqlite")`
    pub sqlite: EmbeddedMigrations,
    /// `embed_migrations!("migrations/postgres")`
    pub postgres: EmbeddedMigrations,
}

/// Exclusive right to migrate, and to do other work that must happen once at the first start. The
/// lock is released when this value is dropped.
pub struct MigrationLock(Holder);

enum Holder {
    Sqlite(sqlite::Pools),
    /// `None` while a migration runs, and after a run that was cancelled.
    Postgres(Option<Box<AsyncPgConnection>>),
}

/// Action to take on pending migrations.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Apply,
    List,
}

impl MigrationLock {
    /// Waits until no other process holds the lock. Refuses a database whose encoding is not UTF-8,
    /// and a pooler that would break what the services rely on.
    pub async fn acquire(db: &Db) -> Result<Self, MigrateError> {
        match db.connections() {
            Connections::Sqlite(pools) => Ok(Self(Holder::Sqlite(pools.clone()))),
            Connections::Postgres(pool) => {
                let mut conn = pooler::own_session(pool).await?;
                let encoding = prepared::<Text>("SELECT current_setting('server_encoding')");
                let encoding: String = encoding.get_result(&mut conn).await.map_err(Error::from)?;
                if encoding != "UTF8" {
                    return Err(MigrateError::Encoding(encoding));
                }
                conn.batch_execute(&format!("SELECT pg_advisory_lock({LOCK_KEY})"))
                    .await
                    .map_err(Error::from)?;
                Ok(Self(Holder::Postgres(Some(Box::new(conn)))))
            }
        }
    }

    /// Applies the pending migrations. Returns their versions in order.
    pub async fn apply(&mut self, migrations: &'static Migrations) -> Result<Vec<String>, MigrateError> {
        self.run(migrations, Mode::Apply).await
    }

    /// Returns the versions of the pending migrations, in order.
    pub async fn pending(&mut self, migrations: &'static Migrations) -> Result<Vec<String>, MigrateError> {
        self.run(migrations, Mode::List).await
    }

    async fn run(&mut self, migrations: &'static Migrations, mode: Mode) -> Result<Vec<String>, MigrateError> {
        match &mut self.0 {
            Holder::Sqlite(pools) => {
                let mut conn = pools.writer().await?;
                let (raw, statement) = conn.start(|| "migrate");
                let Raw::Sqlite(c) = raw else {
                    unreachable!("the lock of SQLite holds its writer")
                };
                let result = c
                    .spawn_blocking(move |c| Ok(in_place::waiting(|| run::<Sqlite>(c, &migrations.sqlite, mode))))
                    .await;
                statement.end(result)?
            }
            Holder::Postgres(slot) => {
                let Some(conn) = slot.take() else {
                    return Err(Error::Unavailable("the migration lock was lost".to_owned()).into());
                };
                // The harness blocks. Only a thread for blocking work may do that on every kind of
                // runtime.
                let blocking = tokio::task::spawn_blocking(move || {
                    let mut harness = AsyncMigrationHarness::new(*conn);
                    let result = run::<Pg>(&mut harness, &migrations.postgres, mode);
                    (harness.into_inner(), result)
                });
                let (conn, result) = blocking.await.map_err(|error| Error::Internal(Box::new(error)))?;
                *slot = Some(Box::new(conn));
                result
            }
        }
    }
}

/// Applies the pending migrations under the lock. Returns their versions in order.
pub async fn migrate(db: &Db, migrations: &'static Migrations) -> Result<Vec<String>, MigrateError> {
    MigrationLock::acquire(db).await?.apply(migrations).await
}

/// Brings the database up to date when a service starts. If `migrate` is true, applies the pending
/// migrations; otherwise fails if there are any.
pub async fn bring_up_to_date(
    lock: &mut MigrationLock,
    migrations: &'static Migrations,
    migrate: bool,
) -> Result<(), MigrateError> {
    if migrate {
        for version in lock.apply(migrations).await? {
            tracing::info!(version, "applied a migration");
        }
        return Ok(());
    }
    let pending = lock.pending(migrations).await?;
    if pending.is_empty() {
        Ok(())
    } else {
        Err(MigrateError::Pending(pending.join(", ")))
    }
}

/// Returns the versions of the pending migrations, in order.
pub async fn pending(db: &Db, migrations: &'static Migrations) -> Result<Vec<String>, MigrateError> {
    MigrationLock::acquire(db).await?.pending(migrations).await
}

fn run<DB: diesel::backend::Backend>(
    harness: &mut impl MigrationHarness<DB>,
    source: &EmbeddedMigrations,
    mode: Mode,
) -> Result<Vec<String>, MigrateError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| MigrateError::Failed(error.to_string());
    let known: Vec<Box<dyn Migration<DB>>> = source.migrations().map_err(failed)?;
    let known: Vec<String> = known
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect();
    let applied = harness.applied_migrations().map_err(failed)?;
    let applied: Vec<String> = applied.iter().map(ToString::to_string).collect();
    // A newer version of this program contains all migrations that this version knows. The database
    // of another service lacks some of them, even if some of its versions have the same name.
    let foreign = applied.iter().filter(|version| !known.contains(version)).min();
    let missing = known.iter().filter(|version| !applied.contains(version)).min();
    if let (Some(applied), Some(missing)) = (foreign, missing) {
        return Err(MigrateError::Foreign {
            applied: applied.clone(),
            missing: missing.clone(),
        });
    }
    if let Some(database) = applied.into_iter().max()
        && !known.contains(&database)
    {
        let program = known.into_iter().max().unwrap_or_default();
        if database > program {
            return Err(MigrateError::Newer { database, program });
        }
    }
    let pending = harness.pending_migrations(MigrationSourceRef(source)).map_err(failed)?;
    let mut versions = Vec::with_capacity(pending.len());
    for migration in pending {
        if mode == Mode::Apply {
            harness.run_migration(&migration).map_err(failed)?;
        }
        versions.push(migration.name().version().to_string());
    }
    Ok(versions)
}

/// Borrowed source of migrations, for a harness that takes its source by value.
struct MigrationSourceRef<'a>(&'a EmbeddedMigrations);

impl<DB: diesel::backend::Backend> MigrationSource<DB> for MigrationSourceRef<'_> {
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn Migration<DB>>>> {
        self.0.migrations()
    }
}
