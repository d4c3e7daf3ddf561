//! Tests of the logins that answers show, and of the statements that answers take.

use std::{fmt, sync::Arc};

use base::{clock::Timestamp, telemetry::traces};
use db::write_tx;
use parking_lot::Mutex;
use testing::{TestDatabase, on_both_backends};
use tracing::{
    Instrument as _, Subscriber,
    field::{Field, Visit},
    instrument::WithSubscriber as _,
    span,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};

use super::*;
use crate::store::{PlayerRow, StatsRow};

/// Names of the statements of some calls, as they appear in traces.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Statements {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        if attributes.metadata().target() == traces::SQL {
            attributes.record(&mut self.clone());
        }
    }
}

impl Visit for Statements {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "db.query.summary" {
            self.0.lock().push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Returns what a call returns, and the statements that it took.
async fn statements<T>(call: impl AsyncFnOnce() -> T) -> (T, Vec<String>) {
    let statements = Statements::default();
    let subscriber = tracing_subscriber::registry().with(statements.clone());
    // The span is created where the subscriber is in force.
    let call = Box::pin(async { call().instrument(tracing::info_span!("call")).await });
    let answer = call.with_subscriber(subscriber).await;
    let names = std::mem::take(&mut *statements.0.lock());
    (answer, names)
}

/// Adds ranked players, the best first. Each is called by its number.
async fn players(database: &TestDatabase, count: usize) -> Vec<UserId> {
    let ids: Vec<UserId> = (0..count).map(|_| UserId::generate()).collect();
    let player = |(number, id): (usize, &UserId)| PlayerRow {
        id: *id,
        login: number.to_string(),
    };
    let players: Vec<PlayerRow> = ids.iter().enumerate().map(player).collect();
    let stats: Vec<StatsRow> = ids.iter().rev().zip(1..).map(|(id, wins)| stats(*id, wins)).collect();
    let written: db::Result<()> = write_tx!(database.db(), |tx| {
        store::players_insert(tx, &players).await?;
        store::stats_insert(tx, &stats).await
    });
    written.expect("written");
    ids
}

fn stats(user_id: UserId, wins: i64) -> StatsRow {
    StatsRow {
        user_id,
        wins,
        losses: 0,
        draws: 0,
        last_finish_time: Timestamp::from_micros(0),
    }
}

async fn rename(db: &Db, id: UserId, login: &str) {
    let renamed: db::Result<()> = write_tx!(db, |tx| store::player_upsert(tx, id, login).await);
    renamed.expect("renamed");
}

async fn delete(db: &Db, id: UserId) {
    let deleted: db::Result<()> = write_tx!(db, |tx| store::player_delete(tx, id).await);
    deleted.expect("deleted");
}

fn logins(entries: Vec<LeaderboardEntry>) -> Vec<String> {
    entries.into_iter().map(|entry| entry.login).collect()
}

async fn top(leaderboard: &Leaderboard, limit: usize) -> Vec<String> {
    logins(leaderboard.top(limit).await.expect("an answer"))
}

async fn around(leaderboard: &Leaderboard, id: UserId, limit: usize) -> Vec<String> {
    let around = leaderboard.around(RequestedPlayer::Other(id), limit).await;
    logins(around.expect("an answer"))
}

async fn login_of(leaderboard: &Leaderboard, id: UserId) -> String {
    let place = leaderboard.place(RequestedPlayer::Other(id)).await;
    place.expect("an answer").0.login
}

#[on_both_backends]
async fn an_answer_takes_one_statement_and_reads_only_logins_that_are_not_known(database: TestDatabase) {
    let ids = players(&database, 9).await;
    let leaderboard = Leaderboard::new(database.db().clone(), 1);
    leaderboard.catch_up().await.expect("read");
    let [changes, changes_and_logins] = ["standings_changed", "changed_and_logins"].map(|name| vec![name.to_owned()]);
    let answer = statements(async || top(&leaderboard, 3).await).await;
    assert_eq!(
        answer,
        (["0", "1", "2"].map(str::to_owned).to_vec(), changes_and_logins.clone())
    );
    let answer = statements(async || top(&leaderboard, 3).await).await;
    assert_eq!(answer, (["0", "1", "2"].map(str::to_owned).to_vec(), changes.clone()));
    // Only those below are not known yet.
    let answer = statements(async || around(&leaderboard, ids[3], 4).await).await;
    assert_eq!(
        answer,
        (["2", "3", "4", "5"].map(str::to_owned).to_vec(), changes_and_logins)
    );
    for (number, id) in ids[..6].iter().enumerate() {
        let answer = statements(async || login_of(&leaderboard, *id).await).await;
        assert_eq!(answer, (number.to_string(), changes.clone()));
    }
    // Changed logins come with the changes.
    rename(database.db(), ids[1], "one").await;
    delete(database.db(), ids[2]).await;
    let answer = statements(async || around(&leaderboard, ids[1], 4).await).await;
    assert_eq!(
        answer,
        (["0", "one", "", "3"].map(str::to_owned).to_vec(), changes.clone())
    );
    // A login that nobody has asked for yet may have changed as well.
    rename(database.db(), ids[8], "eight").await;
    assert_eq!(top(&leaderboard, 1).await, ["0"]);
    assert_eq!(login_of(&leaderboard, ids[8]).await, "eight");
    // A player whose results have changed needs no other statement either.
    let finished: db::Result<()> = write_tx!(database.db(), |tx| store::stats_add(tx, &stats(ids[3], 100)).await);
    finished.expect("written");
    let answer = statements(async || top(&leaderboard, 2).await).await;
    assert_eq!(answer, (["3", "0"].map(str::to_owned).to_vec(), changes));
}

#[on_both_backends]
async fn a_small_cache_shows_the_same(database: TestDatabase) {
    const COUNT: usize = 9;
    let ids = players(&database, COUNT).await;
    let db = database.db();
    let mut expected: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    // From one that keeps nothing to one that keeps most of them.
    for max_bytes in [0, 300, 900, 1_500] {
        let leaderboard = Leaderboard::with_logins(db.clone(), 1, max_bytes);
        let mut reads = 0;
        for (round, id) in ids.iter().enumerate() {
            expected[round].push('x');
            rename(db, *id, &expected[round]).await;
            let (answer, names) = statements(async || top(&leaderboard, COUNT).await).await;
            assert_eq!(answer, expected, "{max_bytes}");
            reads += names.iter().filter(|name| *name == "changed_and_logins").count();
            for (id, login) in ids.iter().zip(&expected) {
                assert_eq!(login_of(&leaderboard, *id).await, *login, "{max_bytes}");
            }
        }
        // All but the first answer, which read the players.
        assert_eq!(reads, COUNT - 1, "{max_bytes}");
    }
}

#[on_both_backends]
async fn nothing_is_remembered_when_all_players_are_read_again(database: TestDatabase) {
    let count = usize::try_from(MAX_CHANGES).expect("small");
    let ids = players(&database, count).await;
    let db = database.db();
    let leaderboard = Leaderboard::new(db.clone(), 1);
    for prefix in ["a", "b"] {
        let expected: Vec<String> = (0..count).map(|number| format!("{prefix}{number}")).collect();
        let before = leaderboard.memory.board.read().loads;
        // So many changes are not looked at one by one.
        for (id, login) in ids.iter().zip(&expected) {
            rename(db, *id, login).await;
        }
        assert_eq!(top(&leaderboard, count).await, expected);
        assert_eq!(leaderboard.memory.board.read().loads, before + 1);
        assert_eq!(top(&leaderboard, count).await, expected);
        assert_eq!(login_of(&leaderboard, ids[0]).await, expected[0]);
    }
    // Statistics that are deleted and written again, as by a repair, leave the login as it is.
    let repaired: db::Result<()> = write_tx!(db, |tx| store::stats_delete(tx, ids[0]).await);
    repaired.expect("deleted");
    rename(db, ids[0], "none").await;
    assert_eq!(top(&leaderboard, 1).await, ["b1"]);
    assert_eq!(login_of(&leaderboard, ids[0]).await, "none");
    let repaired: db::Result<()> = write_tx!(db, |tx| store::stats_add(tx, &stats(ids[0], 1000)).await);
    repaired.expect("written");
    assert_eq!(top(&leaderboard, 2).await, ["none", "b1"]);
}

#[on_both_backends]
async fn every_change_that_was_acknowledged_is_in_the_next_answer(database: TestDatabase) {
    const COUNT: usize = 8;
    const RENAMES: usize = 30;
    let ids = players(&database, COUNT).await;
    let mut boards = Vec::new();
    // Two replicas, one of which evicts all the time.
    for max_bytes in [logins::MAX_BYTES, 900] {
        boards.push(Leaderboard::with_logins(database.replica().await, 1, max_bytes));
    }
    let mut tasks = Vec::new();
    for (player, id) in ids.into_iter().enumerate() {
        let (db, boards) = (database.db().clone(), boards.clone());
        tasks.push(tokio::spawn(async move {
            for number in 0..RENAMES {
                let login = number.to_string();
                rename(&db, id, &login).await;
                let board = &boards[(player + number) % boards.len()];
                match number % 3 {
                    0 => assert_eq!(top(board, COUNT).await[player], login),
                    1 => assert_eq!(login_of(board, id).await, login),
                    _ => assert_eq!(around(board, id, COUNT).await[player], login),
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("as acknowledged");
    }
}
