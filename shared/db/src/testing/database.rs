//! A fresh, migrated database for every test, on either backend.

use std::{collections::HashMap, ptr, time::Duration};

use base::testing::block_on;
use diesel_async::SimpleAsyncConnection as _;
use tempfile::TempDir;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::postgres;
use crate::{Backend, DatabaseSettings, Db, Migrations, migrate, query, write_tx};

/// Names of the PostgreSQL databases that serve as templates, by the address of their migrations.
static TEMPLATES: Mutex<Option<HashMap<usize, String>>> = Mutex::const_new(None);

/// A database for one test: a file that is deleted with this value, or a PostgreSQL database that
/// is deleted with its cluster.
pub struct TestDatabase {
    db: Db,
    settings: DatabaseSettings,
    url: String,
    _directory: Option<TempDir>,
}

impl TestDatabase {
    /// Creates a database, and applies these migrations.
    pub async fn create(backend: Backend, migrations: &'static Migrations) -> Self {
        let database = Self::empty(backend, Some(migrations)).await;
        if backend == Backend::Sqlite {
            migrate(&database.db, migrations).await.expect("migrate");
        }
        database
    }

    /// Creates an empty database.
    pub async fn create_empty(backend: Backend) -> Self {
        Self::empty(backend, None).await
    }

    async fn empty(backend: Backend, template: Option<&'static Migrations>) -> Self {
        let (url, directory) = match backend {
            Backend::Sqlite => {
                let directory = tempfile::tempdir().expect("a temporary directory");
                let url = format!("sqlite:{}/test.db", directory.path().display());
                (url, Some(directory))
            }
            Backend::Postgres => {
                let template = match template {
                    Some(migrations) => template_with(migrations).await,
                    None => "template0".to_owned(),
                };
                (postgres::url(&copy_of(&template).await), None)
            }
        };
        Self::at(url, directory).await
    }

    /// Creates an empty PostgreSQL database with this encoding.
    pub async fn create_encoded(encoding: &str) -> Self {
        let template = format!("template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'");
        Self::at(postgres::url(&copy_of(&template).await), None).await
    }

    async fn at(url: String, directory: Option<TempDir>) -> Self {
        let settings = settings(&url);
        let db = Db::connect(&settings).await.expect("connect to the test's database");
        Self {
            db,
            settings,
            url,
            _directory: directory,
        }
    }

    /// Returns the handle to the database.
    pub const fn db(&self) -> &Db {
        &self.db
    }

    /// Returns the URL, including the password if it has one.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns settings for connecting to the database, with a small pool.
    pub const fn settings(&self) -> &DatabaseSettings {
        &self.settings
    }

    /// Returns the backend of the database.
    pub const fn backend(&self) -> Backend {
        self.db.backend()
    }

    /// Returns a second handle with its own connections, as another replica has. A SQLite file is
    /// served by one process, so on SQLite this is the same handle.
    pub async fn replica(&self) -> Db {
        match self.backend() {
            Backend::Sqlite => self.db.clone(),
            Backend::Postgres => Db::connect(&self.settings).await.expect("connect"),
        }
    }
}

impl TestDatabase {
    /// Simulates a full disk: the SQLite file may not grow any more.
    pub async fn fill_up(&self) {
        self.limit_pages(1).await;
    }

    /// Lifts the limit of [`Self::fill_up`].
    pub async fn make_room(&self) {
        self.limit_pages(u32::MAX - 1).await;
    }

    /// Limits the number of pages. SQLite raises a limit below the current size to that size. The
    /// limit belongs to a connection, and there is only one that writes.
    async fn limit_pages(&self, pages: u32) {
        assert_eq!(self.backend(), Backend::Sqlite, "PostgreSQL has a disk of its own");
        let limited: crate::Result<()> = write_tx!(self.db, |tx| {
            query!(tx, |c| c
                .batch_execute(&format!("PRAGMA max_page_count = {pages}"))
                .await)
        });
        limited.expect("limited");
    }
}

fn settings(url: &str) -> DatabaseSettings {
    DatabaseSettings {
        max_connections: 4,
        acquire_timeout: Duration::from_secs(20),
        statement_timeout: Duration::from_secs(30),
        ..DatabaseSettings::new(url.parse().expect("the URL of a database"))
    }
}

/// Returns a migrated database to copy. Migrating once and copying it is several times faster than
/// migrating for every test.
async fn template_with(migrations: &'static Migrations) -> String {
    let key = ptr::from_ref(migrations).addr();
    let mut templates = TEMPLATES.lock().await;
    let templates = templates.get_or_insert_default();
    if let Some(name) = templates.get(&key) {
        return name.clone();
    }
    let name = copy_of("template0").await;
    let db = Db::connect(&settings(&postgres::url(&name))).await.expect("connect");
    migrate(&db, migrations).await.expect("migrate");
    templates.insert(key, name.clone());
    name
}

async fn copy_of(template: &str) -> String {
    let name = format!("test_{}", Uuid::now_v7().simple());
    let admin = Db::connect(&settings(&postgres::url("postgres")))
        .await
        .expect("connect");
    let mut conn = admin.read().await.expect("a connection to PostgreSQL");
    let sql = format!("CREATE DATABASE {name} TEMPLATE {template}");
    query!(&mut conn, |c| c.batch_execute(&sql).await).expect("create a database");
    name
}

/// Runs a test on a new database. Called by the attribute
/// [`on_both_backends`](super::on_both_backends).
#[doc(hidden)]
pub fn run_test<F: Future<Output = ()>>(
    backend: Backend,
    migrations: &'static Migrations,
    test: impl FnOnce(TestDatabase) -> F,
) {
    block_on(async { test(TestDatabase::create(backend, migrations).await).await });
}
