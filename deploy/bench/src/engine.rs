//! The database to measure on.

use std::path::Path;

use db::Backend;
use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use parking_lot::Mutex;
use testing::postgres::Cluster;
use url::Url;
use uuid::Uuid;

use crate::process::Processes;

/// A database system. What is made on it goes with [`clean_up`](Self::clean_up), or with its
/// cluster.
pub(crate) enum Engine {
    Sqlite,
    /// A private PostgreSQL, which ends with this program.
    Private(Cluster),
    /// One that is there already.
    Given(Url, Mutex<Vec<String>>),
}

/// A database, and whose processor time it uses.
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

    /// A new, empty database. A file is made in this folder.
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

    /// Removes what was made on a server that stays.
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
