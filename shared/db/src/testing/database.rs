//! A fresh, migrated database for every test, on either backend.

use std::{collections::HashMap, ptr, time::Duration};

use base::testing::block_on;
use diesel_async::SimpleAsyncConnection as _;
use tempfile::TempDir;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::postgres;
use crate::{Backend, DatabaseSettings, Db, Migrations, migrate, query, write_tx};

/// Names of the PostgreSQL databases that tests are copied from, by the address of their
/// migrations.
static TEMPLATES: Mutex<Option<HashMap<usize, String>>> = Mutex::const_new(None);

/// A database of one test: a file that goes with it, or a PostgreSQL database that goes with its
/// cluster.
pub struct TestDatabase {
    db: Db,
    settings: DatabaseSettings,
    url: String,
    _directory: Option<TempDir>,
}

impl TestDatabase {
    /// A new database with these migrations applied.
    pub async fn create(backend: Backend, migrations: &'static Migrations) -> Self {
        let database = Self::empty(backend, Some(migrations)).await;
        if backend == Backend::Sqlite {
            migrate(&database.db, migrations).await.expect("migrate");
        }
        database
    }

    /// A new database with nothing in it.
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

    /// A new PostgreSQL database with nothing in it, in this encoding.
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

    /// Its connections.
    pub const fn db(&self) -> &Db {
        &self.db
    }

    /// Its URL, with the password where there is one.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Settings with which it can be connected to, with a small pool.
    pub const fn settings(&self) -> &DatabaseSettings {
        &self.settings
    }

    /// Which backend it is on.
    pub const fn backend(&self) -> Backend {
        self.db.backend()
    }

    /// Connections of their own to the same database, as a second replica has them. On SQLite,
    /// whose file one process serves, these are the same connections.
    pub async fn replica(&self) -> Db {
        match self.backend() {
            Backend::Sqlite => self.db.clone(),
            Backend::Postgres => Db::connect(&self.settings).await.expect("connect"),
        }
    }
}

impl TestDatabase {
    /// As on a full disk: an SQLite file may have no more pages than it has.
    pub async fn fill_up(&self) {
        self.limit_pages(1).await;
    }

    /// There is room again.
    pub async fn make_room(&self) {
        self.limit_pages(u32::MAX - 1).await;
    }

    /// A limit below the size of the file is the size of the file. It is the connection's own, and
    /// there is one that writes.
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

/// Migrating once and copying afterwards is several times as fast as migrating for every test.
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

/// Runs a test on a new database. The attribute [`on_both_backends`](super::on_both_backends) calls
/// it.
#[doc(hidden)]
pub fn run_test<F: Future<Output = ()>>(
    backend: Backend,
    migrations: &'static Migrations,
    test: impl FnOnce(TestDatabase) -> F,
) {
    block_on(async { test(TestDatabase::create(backend, migrations).await).await });
}
