//! The database system to measure with.

use std::path::Path;

use db::Backend;
use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use parking_lot::Mutex;
use testing::postgres::Cluster;
use url::Url;
use uuid::Uuid;

use crate::process::Processes;

/// Database system. The databases on it are removed by [`clean_up`](Self::clean_up), or together
/// with the private server.
pub(crate) enum Engine {
    Sqlite,
    /// A private PostgreSQL server, which ends with this program.
    Private(Cluster),
    /// An existing PostgreSQL server, and the names of the databases that were created on it.
    Given(Url, Mutex<Vec<String>>),
}

/// Database, and the processes whose processor time it uses.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) processes: Processes,
}

impl Engine {
    pub(crate) const fn backend(&self) -> Backend {
        match self {
            Self::Sqlite => Backend::Sqlite,
            Self::Private(_) | Self::Given(..) => Backend::Postgres,
        }
    }

    /// Creates a new, empty database. A SQLite file is created in this folder.
    pub(crate) async fn database(&self, folder: &Path) -> Database {
        let name = format!("bench_{}", Uuid::new_v4().simple());
        let url = match self {
            Self::Sqlite => {
                return Database {
                    url: format!("sqlite:{}/{name}.db", folder.display()),
                    processes: Processes::None,
                };
            }
            Self::Private(cluster) => {
                execute(&cluster.url("postgres"), &format!("CREATE DATABASE {name}")).await;
                cluster.url(&name)
            }
            Self::Given(server, made) => {
                execute(server.as_str(), &format!("CREATE DATABASE {name}")).await;
                made.lock().push(name.clone());
                let mut url = server.clone();
                url.set_path(&name);
                url.into()
            }
        };
        Database {
            url,
            processes: Processes::Backends(name),
        }
    }

    /// Drops the databases that were created on an existing server.
    pub(crate) async fn clean_up(&self) {
        let Self::Given(server, made) = self else { return };
        let made = std::mem::take(&mut *made.lock());
        for name in made {
            execute(server.as_str(), &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

async fn execute(url: &str, statement: &str) {
    let mut conn = AsyncPgConnection::establish(url).await.expect("connect to PostgreSQL");
    conn.batch_execute(statement).await.expect(statement);
}
