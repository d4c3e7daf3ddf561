use std::future::{Future, ready};

use super::*;
use crate::{
    Db, Error,
    testing::{TestDatabase, on_both_backends},
    write_tx,
};

/// Error like that of a service.
#[derive(Debug)]
enum Refusal {
    TooMany(i64),
    Database(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

async fn register(db: &Db, account: &Account, most: i64) -> std::result::Result<i64, Refusal> {
    write_tx!(db, |tx| {
        account_insert(tx, account).await?;
        let count = account_count(tx).await?;
        if count > most {
            return Err(Refusal::TooMany(count));
        }
        Ok(count)
    })
}

async fn count(database: &TestDatabase) -> i64 {
    account_count(&mut database.db().read().await.unwrap()).await.unwrap()
}

/// Polls a future once, then drops it.
async fn begun_and_cancelled(future: impl Future) {
    tokio::select! {
        biased;
        _ = future => {}
        () = ready(()) => {}
    }
}

#[test]
fn futures_of_queries_and_transactions_are_send() {
    fn send<F: Future + Send>(_: impl Fn(&'static Db, &'static Account) -> F) {}
    send(|db, account| register(db, account, 1));
    send(|db, account| async move {
        let mut conn = db.read().await?;
        account_lock(&mut conn, account.id).await
    });
}

#[on_both_backends]
async fn ok_commits_and_err_rolls_back(database: TestDatabase) {
    assert_eq!(register(database.db(), &Account::new("kim"), 1).await.unwrap(), 1);
    let refused = register(database.db(), &Account::new("lee"), 1).await;
    assert!(matches!(refused, Err(Refusal::TooMany(2))), "{refused:?}");
    let duplicate = register(database.db(), &Account::new("kim"), 9).await;
    assert!(
        matches!(duplicate, Err(Refusal::Database(Error::Unique { .. }))),
        "{duplicate:?}"
    );
    assert_eq!(count(&database).await, 1);
}

#[on_both_backends]
async fn a_row_is_locked_read_and_changed(database: TestDatabase) {
    let account = Account::new("kim");
    register(database.db(), &account, 1).await.unwrap();
    let renamed: Result<Option<Account>> = write_tx!(database.db(), |tx| {
        assert_eq!(account_lock(tx, account.id).await?.as_ref(), Some(&account));
        assert_eq!(account_lock(tx, UserId::generate()).await?, None);
        account_rename(tx, account.id, "lee").await
    });
    assert_eq!(renamed.unwrap().unwrap().login, "lee");
}

#[on_both_backends]
async fn a_transaction_dropped_midway_leaves_nothing(database: TestDatabase) {
    let account = Account::new("kim");
    let mut settings = database.settings().clone();
    settings.max_connections = 1;
    let db = match database.backend() {
        crate::Backend::Sqlite => database.db().clone(),
        crate::Backend::Postgres => Db::connect(&settings).await.unwrap(),
    };
    let mut transaction = db.begin().await.unwrap();
    account_insert(transaction.conn(), &account).await.unwrap();
    drop(transaction);
    // The pool has only one connection for writing, which held the transaction.
    assert_eq!(register(&db, &account, 1).await.unwrap(), 1);
}

#[on_both_backends]
async fn a_transaction_cancelled_at_any_point_is_all_or_nothing(database: TestDatabase) {
    for index in 0..20_u32 {
        let account = Account::new(&format!("login-{index}"));
        let mut call = Box::pin(register(database.db(), &account, 100));
        // Each round polls the call once more before cancelling it.
        for _ in 0..index {
            tokio::select! {
                biased;
                _ = &mut call => break,
                () = tokio::task::yield_now() => {}
            }
        }
        drop(call);
        // This call waits until the cancelled one has released everything, and then either finds
        // its row or inserts it.
        match register(database.db(), &account, 100).await {
            Ok(_) | Err(Refusal::Database(Error::Unique { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(count(&database).await, 20);
}

#[on_both_backends]
async fn a_commit_continues_when_its_caller_is_cancelled(database: TestDatabase) {
    let account = Account::new("kim");
    let mut transaction = database.db().begin().await.unwrap();
    account_insert(transaction.conn(), &account).await.unwrap();
    begun_and_cancelled(transaction.commit()).await;
    // This call waits for the end of the transaction that holds the login.
    let second = register(database.db(), &Account::new("kim"), 9).await;
    assert!(
        matches!(second, Err(Refusal::Database(Error::Unique { .. }))),
        "{second:?}"
    );
}

#[on_both_backends]
async fn a_swallowed_error_cannot_be_committed(database: TestDatabase) {
    let outcome: Result<()> = write_tx!(database.db(), |tx| {
        account_insert(tx, &Account::new("kim")).await?;
        assert!(account_insert(tx, &Account::new("kim")).await.is_err());
        Ok(())
    });
    assert!(matches!(outcome, Err(Error::Internal(_))), "{outcome:?}");
    assert_eq!(count(&database).await, 0);
}

#[on_both_backends]
async fn concurrent_writers_lose_no_update(database: TestDatabase) {
    let account = Account::new("");
    register(database.db(), &account, 1).await.unwrap();
    let replica = database.replica().await;
    let mut writers = tokio::task::JoinSet::new();
    for index in 0..16 {
        let db = if index % 2 == 0 {
            database.db().clone()
        } else {
            replica.clone()
        };
        let id = account.id;
        writers.spawn(async move {
            let outcome: Result<Option<Account>> = write_tx!(db, |tx| {
                let login = account_lock(tx, id).await?.unwrap().login + "x";
                account_rename(tx, id, &login).await
            });
            outcome.unwrap().unwrap();
        });
    }
    writers.join_all().await;
    let found = account_by_id(&mut database.db().read().await.unwrap(), account.id)
        .await
        .unwrap();
    assert_eq!(found.unwrap().login.len(), 16);
}
