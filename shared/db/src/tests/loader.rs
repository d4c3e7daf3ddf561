use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use base::testing::block_on;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use tokio::sync::Semaphore;

use super::*;
use crate::{
    Backend, Db, Loader,
    testing::{TestDatabase, on_both_backends},
    write_tx,
};

/// Numbers of statements that [`counted`] has run, on SQLite and on PostgreSQL.
static STATEMENTS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

fn statements(backend: Backend) -> &'static AtomicUsize {
    &STATEMENTS[usize::from(backend == Backend::Postgres)]
}

fn counted<'a>(conn: &'a mut Conn, ids: &'a [UserId]) -> BoxFuture<'a, Result<Vec<(UserId, String)>>> {
    statements(conn.backend()).fetch_add(1, Ordering::Relaxed);
    logins(conn, ids)
}

fn logins<'a>(conn: &'a mut Conn, ids: &'a [UserId]) -> BoxFuture<'a, Result<Vec<(UserId, String)>>> {
    async move {
        let found = accounts::table.filter(accounts::id.eq_any(ids));
        query!(conn, |c| found.select((accounts::id, accounts::login)).load(c).await)
    }
    .boxed()
}

fn broken<'a>(conn: &'a mut Conn, _: &'a [UserId]) -> BoxFuture<'a, Result<Vec<(UserId, String)>>> {
    async move {
        let missing =
            crate::prepared::<(crate::sql_types::Uuid, diesel::sql_types::Text)>("SELECT id, login FROM missing");
        query!(conn, |c| missing.load(c).await)
    }
    .boxed()
}

async fn insert(db: &Db, account: &Account) {
    let inserted: Result<()> = write_tx!(db, |tx| account_insert(tx, account).await);
    inserted.expect("inserted");
}

#[on_both_backends]
async fn many_calls_are_answered_by_few_statements(database: TestDatabase) {
    let people: Vec<Account> = (0..100).map(|number| Account::new(&format!("user-{number}"))).collect();
    for person in &people {
        insert(database.db(), person).await;
    }
    let loader = Loader::new(database.db().clone(), counted);
    let asked = people.iter().chain(&people).map(|person| loader.get(person.id));
    for (found, person) in join_all(asked).await.into_iter().zip(people.iter().chain(&people)) {
        assert_eq!(found.expect("read"), Some(person.login.clone()));
    }
    let statements = statements(database.backend()).load(Ordering::Relaxed);
    match database.backend() {
        Backend::Sqlite => assert_eq!(statements, 200),
        Backend::Postgres => assert!(statements < 100, "{statements}"),
    }
    assert_eq!(loader.get(UserId::generate()).await.expect("read"), None);
    // A call sees everything that was written before it.
    for number in 0..50 {
        let person = Account::new(&format!("late-{number}"));
        insert(database.db(), &person).await;
        let (found, _) = tokio::join!(loader.get(person.id), loader.get(people[0].id));
        assert_eq!(found.expect("read"), Some(person.login));
    }
}

#[on_both_backends]
async fn an_error_reaches_every_caller_of_the_statement(database: TestDatabase) {
    let loader = Loader::new(database.db().clone(), broken);
    for found in join_all((0..20).map(|_| loader.get(UserId::generate()))).await {
        assert!(matches!(found, Err(Error::Internal(_))), "{found:?}");
    }
}

#[on_both_backends]
async fn a_cancelled_call_does_not_cancel_others(database: TestDatabase) {
    let person = Account::new("ann");
    insert(database.db(), &person).await;
    let loader = Loader::new(database.db().clone(), logins);
    for _ in 0..50 {
        // The first call starts the reader, and is then cancelled.
        let cancelled = async {
            tokio::select! {
                biased;
                _ = loader.get(person.id) => {}
                () = std::future::ready(()) => {}
            }
        };
        let ((), found) = tokio::join!(cancelled, loader.get(person.id));
        assert_eq!(found.expect("read"), Some("ann".to_owned()));
    }
}

#[test]
fn callers_who_wait_while_every_reader_panics_are_answered() {
    /// Key whose read panics.
    const BAD: u32 = 0;
    static BEGUN: Semaphore = Semaphore::const_new(0);
    static GATE: Semaphore = Semaphore::const_new(0);

    fn panicking<'a>(_: &'a mut Conn, keys: &'a [u32]) -> BoxFuture<'a, Result<Vec<(u32, u32)>>> {
        async move {
            if keys.contains(&BAD) {
                BEGUN.add_permits(1);
                let _open = GATE.acquire().await;
                panic!("this read panics");
            }
            Ok(keys.iter().map(|key| (*key, *key)).collect())
        }
        .boxed()
    }

    block_on(async {
        let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
        let loader = Loader::new(database.db().clone(), panicking);
        let readers = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        let mut bad = Vec::new();
        for _ in 0..readers {
            let loader = loader.clone();
            bad.push(tokio::spawn(async move { loader.get(BAD).await }));
            BEGUN.acquire().await.expect("open").forget();
        }
        // Every reader is busy, so these callers wait.
        let mut good = Box::pin(join_all((1..10).map(|key| loader.get(key))));
        assert!(good.as_mut().now_or_never().is_none());
        GATE.add_permits(readers);
        let answers = tokio::time::timeout(Duration::from_secs(30), good).await;
        for (answer, key) in answers.expect("answered").into_iter().zip(1..) {
            assert_eq!(answer.expect("read"), Some(key));
        }
        for call in bad {
            assert!(matches!(call.await.expect("joined"), Err(Error::Internal(_))));
        }
    });
}
