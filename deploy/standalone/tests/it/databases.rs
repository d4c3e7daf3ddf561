//! Each program refuses the other's database.

use db::Backend;
use testing::{TestDatabase, block_on, program::Program};

use crate::access_feed::executable;

async fn migrate(program: &str, url: &str) -> testing::program::Ended {
    let arguments = ["migrate", "--log-level", "error", "--database-url", url];
    Program::start(&executable(program), arguments).ended().await
}

#[test]
fn two_services_cannot_share_a_database() {
    block_on(async {
        for [first, second] in [["auth-service", "game-service"], ["game-service", "auth-service"]] {
            for backend in [Backend::Sqlite, Backend::Postgres] {
                let folder = tempfile::tempdir().expect("a temporary directory");
                let url = match backend {
                    Backend::Sqlite => format!("sqlite:{}/both.db", folder.path().display()),
                    Backend::Postgres => TestDatabase::create_empty(backend).await.url().to_owned(),
                };
                assert_eq!(migrate(first, &url).await.code, Some(0));
                let ended = migrate(second, &url).await;
                let line = ended.only_line(1);
                assert!(line.starts_with("the database belongs to another service"), "{line}");
                assert!(
                    line.ends_with("each service needs a database of its own (--database-url)"),
                    "{line}"
                );
                let ended = migrate(first, &url).await;
                assert_eq!(ended.stdout, "the database is up to date\n", "{ended:?}");
            }
        }
    });
}
