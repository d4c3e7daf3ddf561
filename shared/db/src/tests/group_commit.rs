use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::*;
use crate::{
    Backend, Db, GroupCommit, GroupOutcome, GroupWriter, prepared,
    testing::{TestDatabase, on_both_backends},
    write_tx,
};

/// Writer that adds to the first number of a pair.
struct Sums {
    db: Db,
    seen: Arc<Seen>,
}

/// Groups and single writes that the writer was asked for.
#[derive(Default)]
struct Seen {
    groups: Mutex<Vec<usize>>,
    alone: Mutex<usize>,
    /// If set, each group waits for this before it writes.
    gate: Option<Notify>,
}

#[derive(Clone, Debug)]
enum Write {
    Add(i64, i64),
    /// Refused before anything is written.
    Refused(i64),
    /// Fails the whole group.
    Poison(i64),
    /// Left out of the group.
    Locked(i64),
}

#[derive(Debug)]
enum Failure {
    Refused,
    Database(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl Write {
    const fn id(&self) -> i64 {
        match self {
            Self::Add(id, _) | Self::Refused(id) | Self::Poison(id) | Self::Locked(id) => *id,
        }
    }

    async fn run(&self, tx: &mut Conn) -> std::result::Result<i64, Failure> {
        let amount = match self {
            Self::Add(_, amount) => *amount,
            Self::Locked(_) => 1,
            Self::Refused(_) => return Err(Failure::Refused),
            Self::Poison(_) => {
                let broken = prepared::<()>("UPDATE missing SET nothing = 1");
                query!(tx, |c| broken.execute(c).await)?;
                0
            }
        };
        let pair = pairs::table.find(self.id());
        let update = diesel::update(pair).set((pairs::a.eq(pairs::a + amount), pairs::b.eq(amount)));
        query!(tx, |c| update.execute(c).await)?;
        Ok(amount)
    }
}

impl GroupWriter for Sums {
    type Write = Write;
    type Output = i64;
    type Error = Failure;

    fn rows(&self, write: &Write) -> Vec<Uuid> {
        vec![Uuid::from_u128(u128::from(write.id().unsigned_abs()))]
    }

    async fn write_alone(&self, write: &Write) -> std::result::Result<i64, Failure> {
        *self.seen.alone.lock() += 1;
        write_tx!(self.db, |tx| write.run(tx).await)
    }

    async fn write_together(&self, writes: &[Write]) -> Result<Vec<Option<GroupOutcome<Self>>>> {
        self.seen.groups.lock().push(writes.len());
        if let Some(gate) = &self.seen.gate {
            gate.notified().await;
        }
        write_tx!(self.db, |tx| {
            let mut outcomes = Vec::new();
            for write in writes {
                outcomes.push(match write {
                    Write::Locked(_) => None,
                    write => match write.run(tx).await {
                        Err(Failure::Database(error)) => return Err(error),
                        outcome => Some(outcome),
                    },
                });
            }
            Ok(outcomes)
        })
    }
}

async fn pairs_of(db: &Db, count: i64) -> Vec<i64> {
    for id in 1..=count {
        let inserted: Result<usize> = write_tx!(db, |tx| pair_insert(tx, id, id, id).await);
        inserted.expect("inserted");
    }
    (1..=count).collect()
}

async fn sums(db: &Db, ids: &[i64]) -> Vec<i64> {
    let conn = &mut db.read().await.expect("a connection");
    let mut sums = Vec::new();
    for id in ids {
        let sum: Result<i64> = query!(conn, |c| pairs::table.find(*id).select(pairs::a).first(c).await);
        sums.push(sum.expect("the pair"));
    }
    sums
}

fn commit(db: &Db, seen: &Arc<Seen>) -> GroupCommit<Sums> {
    let writer = Sums {
        db: db.clone(),
        seen: Arc::clone(seen),
    };
    GroupCommit::new(db, "sums", writer)
}

#[on_both_backends]
async fn concurrent_writes_share_a_transaction_and_each_gets_its_outcome(database: TestDatabase) {
    let db = database.db();
    let ids = pairs_of(db, 100).await;
    let seen = Arc::new(Seen::default());
    let commit = commit(db, &seen);
    let before = sums(db, &ids).await;
    let amounts = (1_i64..).map(|amount| amount * 10);
    let writes = ids
        .iter()
        .zip(amounts)
        .map(|(id, amount)| commit.write(Write::Add(*id, amount)));
    let outcomes = join_all(writes).await;
    let changed = sums(db, &ids).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let amount = outcome.expect("written");
        assert_eq!(amount, (i64::try_from(number).expect("few") + 1) * 10);
        assert_eq!(changed[number], before[number] + amount);
    }
    let groups = seen.groups.lock().clone();
    match database.backend() {
        Backend::Sqlite => assert_eq!((groups, *seen.alone.lock()), (vec![], 100)),
        Backend::Postgres => {
            assert!(groups.len() < 50, "{groups:?}");
            assert_eq!((groups.iter().sum::<usize>(), *seen.alone.lock()), (100, 0));
        }
    }
}

#[on_both_backends]
async fn writes_to_one_row_keep_their_order(database: TestDatabase) {
    let db = database.db();
    let ids = pairs_of(db, 1).await;
    let before = sums(db, &ids).await[0];
    let commit = commit(db, &Arc::default());
    let writes = (1..=50).map(|amount| commit.write(Write::Add(ids[0], amount)));
    for (number, outcome) in (1..=50).zip(join_all(writes).await) {
        assert_eq!(outcome.expect("written"), number);
    }
    assert_eq!(sums(db, &ids).await[0], before + 50 * 51 / 2);
    let conn = &mut db.read().await.expect("a connection");
    let last: Result<i64> = query!(conn, |c| pairs::table.find(ids[0]).select(pairs::b).first(c).await);
    assert_eq!(last.expect("the pair"), 50, "writes are done in the order of the calls");
}

#[on_both_backends]
async fn refusals_locks_and_failures_affect_only_their_own_write(database: TestDatabase) {
    let db = database.db();
    let ids = pairs_of(db, 40).await;
    let before = sums(db, &ids).await;
    let commit = commit(db, &Arc::default());
    let writes = ids.iter().enumerate().map(|(number, id)| match number % 8 {
        1 => Write::Refused(*id),
        3 => Write::Locked(*id),
        5 => Write::Poison(*id),
        _ => Write::Add(*id, 1),
    });
    let outcomes = join_all(writes.map(|write| commit.write(write))).await;
    let after = sums(db, &ids).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let added = after[number] - before[number];
        match number % 8 {
            1 => assert!(matches!(outcome, Err(Failure::Refused)), "{outcome:?}"),
            5 => assert!(
                matches!(outcome, Err(Failure::Database(Error::Internal(_)))),
                "{outcome:?}"
            ),
            _ => assert_eq!(outcome.expect("written"), 1),
        }
        assert_eq!(added, i64::from(!matches!(number % 8, 1 | 5)), "{number}");
    }
}

#[on_both_backends]
async fn a_cancelled_write_is_dropped_only_before_its_group_begins(database: TestDatabase) {
    if database.backend() == Backend::Sqlite {
        // On SQLite each write runs in its caller's own transaction.
        return;
    }
    let db = database.db();
    let ids = pairs_of(db, 3).await;
    let before = sums(db, &ids).await;
    let seen = Arc::new(Seen {
        gate: Some(Notify::new()),
        ..Seen::default()
    });
    let commit = commit(db, &seen);
    let write = |id| {
        let commit = commit.clone();
        tokio::spawn(async move { commit.write(Write::Add(id, 1)).await })
    };
    // With few processors one task writes. The first write is in its group, the others wait.
    let parallel = std::thread::available_parallelism()
        .map_or(1, |cores| cores.get().div_ceil(2))
        .max(2);
    let first = write(ids[0]);
    while seen.groups.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    first.abort();
    let gone = write(ids[1]);
    while parallel > 1 && seen.groups.lock().len() < 2 {
        tokio::task::yield_now().await;
    }
    let last = write(ids[2]);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    gone.abort();
    let gone = gone.await;
    assert!(gone.is_err_and(|error| error.is_cancelled()));
    let open = async {
        loop {
            if let Some(gate) = &seen.gate {
                gate.notify_one();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = open => {}
        last = last => assert_eq!(last.expect("no panic").expect("written"), 1),
    }
    // The first write goes on, although its caller is gone.
    while sums(db, &ids).await[0] == before[0] {
        if let Some(gate) = &seen.gate {
            gate.notify_one();
        }
        tokio::task::yield_now().await;
    }
    let after = sums(db, &ids).await;
    assert_eq!((after[0] - before[0], after[2] - before[2]), (1, 1));
    if parallel == 1 {
        assert_eq!(after[1], before[1], "its caller was gone before the group began");
    }
}
