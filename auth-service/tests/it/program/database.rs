//! The program with databases in various states: new, of a newer version, in use, or out of reach.

use std::{fs, time::Duration};

use auth_service::{MIGRATIONS, ServerSecrets};
use db::{Backend, Db, MigrationLock, query};
use diesel_async::SimpleAsyncConnection as _;
use secrecy::ExposeSecret as _;
use testing::{
    block_on,
    program::{Program, Signal, serving},
};

use crate::program::start::{AUTH_SERVICE, ProgramSetup, jwks, register};

impl ProgramSetup {
    fn migrate(&self) -> Program {
        Program::start(
            AUTH_SERVICE,
            ["migrate", "--log-level", "error", "--database-url", &self.url],
        )
    }

    async fn database(&self) -> Db {
        let settings = db::DatabaseSettings::new(self.url.parse().expect("a URL"));
        Db::connect(&settings).await.expect("connect")
    }

    async fn count(&self, table: &str) -> i64 {
        let db = self.database().await;
        let mut conn = db.read().await.expect("a connection");
        let sql = format!("SELECT count(*) AS count FROM {table}");
        let row: db::Result<Count> = query!(&mut conn, |c| diesel_async::RunQueryDsl::get_result(
            diesel::sql_query(&sql),
            c
        )
        .await);
        row.expect("a count").count
    }
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    count: i64,
}

/// Returns the number of migrations.
fn migrations() -> i64 {
    let folders = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite"));
    i64::try_from(folders.expect("the migrations").count()).expect("few")
}

async fn execute(db: &Db, sql: &str) {
    let mut tx = db.begin().await.expect("a transaction");
    let done: db::Result<()> = query!(tx.conn(), |c| c.batch_execute(sql).await);
    done.expect("executed");
    tx.commit().await.expect("committed");
}

#[test]
fn migrate_reports_what_it_applied() {
    block_on(async {
        for backend in [Backend::Sqlite, Backend::Postgres] {
            let setup = ProgramSetup::new(backend).await;
            let refused = setup.refused(&["--migrate", "false"]).await;
            let line = refused.only_line(1);
            assert!(line.starts_with("the database lacks the migrations 2"), "{line}");
            assert!(line.ends_with("; apply them with the command `migrate`"), "{line}");
            for expected in ["applied 20261121000000", "the database is up to date"] {
                let ended = setup.migrate().ended().await;
                assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
                assert!(ended.stdout.starts_with(expected), "{ended:?}");
                assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
            }
        }
    });
}

#[test]
fn a_database_of_a_newer_version_is_refused_unchanged() {
    block_on(async {
        for backend in [Backend::Sqlite, Backend::Postgres] {
            let setup = ProgramSetup::new(backend).await;
            assert_eq!(setup.migrate().ended().await.code, Some(0));
            let later = "INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')";
            execute(&setup.database().await, later).await;
            for ended in [setup.refused(&[]).await, setup.migrate().ended().await] {
                let line = ended.only_line(1);
                assert!(
                    line.starts_with("the database was made by a newer version of this program"),
                    "{line}"
                );
            }
            assert_eq!(setup.count("__diesel_schema_migrations").await, migrations() + 1);
            assert_eq!(setup.count("signing_keys").await, 0);
        }
    });
}

#[test]
fn a_database_of_another_server_secret_is_refused_unchanged() {
    block_on(async {
        for backend in [Backend::Sqlite, Backend::Postgres] {
            let setup = ProgramSetup::new(backend).await;
            let program = setup.serve(&[]);
            let at = program.addresses().await;
            serving(at.grpc).await;
            let keys = jwks(at).await;
            program.signal(Signal::Terminate);
            assert_eq!(program.ended().await.code, Some(0));

            let first = fs::read_to_string(&setup.secret_file).expect("the secret");
            let other = ServerSecrets::generate();
            setup.write("secret", other.expose_secret());
            let refused = setup.refused(&[]).await;
            let line = refused.only_line(1);
            assert!(
                line.contains("the server secret is not the one that it was stored with"),
                "{line}"
            );

            // With the previous secret on the second line, the new secret is accepted.
            setup.write("secret", &format!("{}{first}", other.expose_secret()));
            let program = setup.serve(&[]);
            let at = program.addresses().await;
            serving(at.grpc).await;
            assert_eq!(jwks(at).await, keys);
        }
    });
}

#[test]
fn a_database_file_in_use_by_another_process_is_reported() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let program = setup.serve(&[]);
        let at = program.addresses().await;
        serving(at.grpc).await;
        for ended in [setup.refused(&[]).await, setup.migrate().ended().await] {
            let line = ended.only_line(1);
            assert!(line.contains("auth.db is in use by another process"), "{line}");
        }
        register(at, "ann").await;
    });
}

#[test]
fn migrate_waits_for_its_database_if_asked_to() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Postgres).await;
        let database: url::Url = setup.url.parse().expect("a URL");
        let target = (
            database.host_str().expect("a host").to_owned(),
            database.port().expect("a port"),
        );
        let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut behind = database.clone();
        behind
            .set_port(Some(door.local_addr().expect("an address").port()))
            .expect("a port");
        let carry = tokio::spawn(async move {
            for turned_away in 0.. {
                let (mut client, _) = door.accept().await.expect("a connection");
                // The first two connections are closed, as by a database that is still starting.
                if turned_away < 2 {
                    continue;
                }
                let mut server = tokio::net::TcpStream::connect(target.clone())
                    .await
                    .expect("the database");
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
            }
        });
        let ended = Program::start(
            AUTH_SERVICE,
            ["migrate", "--wait-seconds", "60", "--database-url", behind.as_str()],
        )
        .ended()
        .await;
        carry.abort();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.starts_with("applied "), "{ended:?}");
    });
}

#[test]
fn an_unusable_database_is_reported_with_the_reason() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Sqlite).await;
        let folder = setup.folder.path().display();
        for (url, words) in [
            (format!("sqlite:{folder}/nowhere/auth.db"), "No such file or directory"),
            (format!("sqlite:{folder}"), "Is a directory"),
            (
                format!(
                    "sqlite:{}",
                    setup.write("text.db", &"not a database ".repeat(99)).display()
                ),
                "not a database",
            ),
            (
                "postgres://kim:hunter2@127.0.0.1:1/auth".to_owned(),
                "Connection refused",
            ),
        ] {
            let ended = Program::start(
                AUTH_SERVICE,
                ["migrate", "--log-level", "error", "--database-url", &url],
            )
            .ended()
            .await;
            let line = ended.only_line(1);
            assert!(line.contains(words), "{line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    });
}

/// Kills a process in the middle of the first migration, and then starts eight at the same time.
#[test]
fn one_of_eight_starting_replicas_prepares_the_database() {
    block_on(async {
        let setup = ProgramSetup::new(Backend::Postgres).await;
        let db = setup.database().await;
        let mut tx = db.begin().await.expect("a transaction");
        let blocked: db::Result<()> = query!(tx.conn(), |c| c.batch_execute("CREATE TABLE users (id int)").await);
        blocked.expect("a table of that name, not committed");
        let victim = setup.serve(&[]);
        let migrating = "SELECT 1 FROM pg_stat_activity \
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%CREATE TABLE users%'";
        let in_mid_migration = async {
            let mut conn = db.read().await.expect("a connection");
            loop {
                let waiting: db::Result<usize> = query!(&mut conn, |c| diesel_async::RunQueryDsl::execute(
                    diesel::sql_query(migrating),
                    c
                )
                .await);
                if waiting.expect("an answer") == 1 {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), in_mid_migration).await;
        waited.expect("it comes to the migration");
        victim.signal(Signal::Kill);
        assert_eq!(victim.ended().await.code, None);
        tx.rollback().await;

        let replicas: Vec<Program> = (0..8).map(|_| setup.serve(&[])).collect();
        let mut keys = Vec::new();
        for replica in &replicas {
            let at = replica.addresses().await;
            serving(at.grpc).await;
            keys.push(jwks(at).await);
        }
        keys.dedup();
        assert_eq!(keys.len(), 1, "{keys:?}");
        assert_eq!(setup.count("__diesel_schema_migrations").await, migrations());
        assert_eq!(setup.count("signing_keys").await, 1);
        let lock = MigrationLock::acquire(&db).await;
        let pending = lock.expect("free").pending(&MIGRATIONS).await.expect("an answer");
        assert_eq!(pending, Vec::<String>::new());
    });
}
