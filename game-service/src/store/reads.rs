//! Tests that statements read little of large tables: PostgreSQL counts the rows that the plans of
//! the real statements read.

use std::time::Duration;

use base::{clock::Clock, ids::UserId, page::Position};
use db::{Backend, Db, prelude::*, write_tx};
use diesel_async::SimpleAsyncConnection as _;
use testing::{TestDatabase, block_on, rows_read};

use super::*;
use crate::ids::{GameId, RequestId};

/// Executions of each statement. After five of them, PostgreSQL may switch to a generic plan.
const EXECUTIONS: u128 = 7;

/// 20 games of each of 1000 players. A tenth is unfinished, and a tenth of those is due for a
/// check.
const FILL: &str = "
INSERT INTO players (id, login) SELECT lpad(to_hex(n), 32, '0')::uuid, 'player-' || n FROM generate_series(0, 999) AS n;
INSERT INTO games (id, opponent, creator_id, x_player_id, o_player_id, board, state, winner, version, create_time,
    update_time, finish_time, end_reason, create_request, expire_time, sweep_time, moves)
SELECT id, 'player', x, x, CASE WHEN n % 100 <> 0 THEN o END, '.........',
    CASE WHEN is_over THEN 'won' WHEN n % 100 = 0 THEN 'waiting' ELSE 'turn' END, CASE WHEN is_over THEN 'X' END, 2,
    time, time, CASE WHEN is_over THEN time END, CASE WHEN is_over THEN 'line' END, id,
    CASE WHEN NOT is_over THEN now() + interval '20 hours' END,
    CASE WHEN n % 20 = 10 THEN now() - random() * interval '1 hour' ELSE now() + interval '20 hours' END, ''
FROM (SELECT n, n % 10 <> 0 AS is_over, lpad(to_hex(n), 32, '0')::uuid AS id, lpad(to_hex(n / 20), 32, '0')::uuid AS x,
    lpad(to_hex((n / 20 + 1) % 1000), 32, '0')::uuid AS o, now() - interval '1 year' + n * interval '1 minute' AS time
    FROM generate_series(0, 19999) AS n) AS made;
INSERT INTO game_results (user_id, game_id, result, opponent_id, finish_time, end_reason)
SELECT x_player_id, id, 'won', o_player_id, finish_time, 'line' FROM games WHERE finish_time IS NOT NULL
UNION ALL SELECT o_player_id, id, 'lost', x_player_id, finish_time, 'line' FROM games WHERE finish_time IS NOT NULL;
INSERT INTO player_stats (user_id, wins, losses, draws, last_finish_time) SELECT id, 9, 9, 0, now() FROM players;
ANALYZE";

async fn run(db: &Db, statements: &str) {
    let ran: db::Result<()> = write_tx!(db, |tx| query!(tx, |c| c.batch_execute(statements).await));
    ran.unwrap_or_else(|error| panic!("{error}: {statements}"));
}

async fn filled() -> TestDatabase {
    let database = TestDatabase::create(Backend::Postgres, &MIGRATIONS).await;
    run(database.db(), FILL).await;
    database
}

fn player(number: u128) -> UserId {
    UserId::from_uuid(uuid::Uuid::from_u128(number))
}

fn game(number: u128) -> GameId {
    GameId::from_uuid(uuid::Uuid::from_u128(number))
}

/// Runs a statement repeatedly. Returns the largest number of rows that it read, and how many of
/// them by scanning a whole table.
macro_rules! most_read {
    ($tx:ident, $number:ident, $statement:expr) => {{
        let tables = ["games", "game_results"];
        let mut most = (0, 0);
        for $number in 1..=EXECUTIONS {
            let before = rows_read($tx, &tables).await;
            $statement.expect("a good statement");
            let after = rows_read($tx, &tables).await;
            let by_scan = after.by_scan - before.by_scan;
            most = most.max((by_scan + after.by_index - before.by_index, by_scan));
        }
        most
    }};
}

/// Number of rows that PostgreSQL reads while it plans a join: those at both ends of some indexes.
const PLANNING: i64 = 20;

/// Asserts that a statement reads at most this many rows, not counting those that planning reads,
/// and scans no table.
macro_rules! assert_reads {
    ($tx:ident, $limit:expr, $name:literal, |$number:ident| $statement:expr) => {
        let (most, by_scan) = most_read!($tx, $number, $statement);
        assert_eq!(by_scan, 0, "{} scans a table", $name);
        assert!(most <= $limit + PLANNING, "{} reads {most} rows", $name);
    };
}

#[test]
fn calls_read_few_of_many_games() {
    block_on(async {
        let database = filled().await;
        let now = Clock::system().now();
        let before_now = |time: Duration| Position {
            time: now.minus(time),
            id: GameId::generate(),
        };
        let done: db::Result<()> = write_tx!(database.db(), |tx| {
            assert_reads!(tx, 1, "game_lock", |n| game_lock(tx, game(n)).await);
            assert_reads!(tx, 1, "game_with_moves", |n| {
                let request = ViewRequest {
                    game: game(n),
                    user: None,
                };
                game_with_moves(tx, request).await
            });
            assert_reads!(tx, 2, "games_with_moves", |n| {
                let requests = [n, n + 1].map(|n| ViewRequest {
                    game: game(n),
                    user: Some(player(0)),
                });
                games_with_moves(tx, &requests).await
            });
            assert_reads!(tx, 1, "game_by_request", |n| {
                let request = RequestId::from_uuid(uuid::Uuid::from_u128(n));
                game_by_request(tx, player(0), request).await
            });
            assert_reads!(tx, 2, "requests_known", |n| {
                let request = RequestId::from_uuid(uuid::Uuid::from_u128(n));
                requests_known(tx, &[(player(0), request), (player(1), request)]).await
            });
            // Each player has two unfinished games on each side.
            assert_reads!(tx, 4, "games_running", |n| games_running(tx, player(n), None, 50).await);
            assert_reads!(tx, 4, "games_running_count", |n| games_running_count(
                tx,
                player(n),
                now,
                100
            )
            .await);
            assert_reads!(tx, 8, "games_running_counts", |n| {
                games_running_counts(tx, &[player(n), player(n + 1)], now, 100).await
            });
            assert_reads!(tx, 51, "games_waiting", |_n| games_waiting(tx, now, None, 51).await);
            let after = Some(before_now(Duration::from_hours(24 * 364)));
            assert_reads!(tx, 51, "games_waiting", |_n| games_waiting(tx, now, after, 51).await);
            let all = ResultFilter::default();
            assert_reads!(tx, 11, "results_list", |n| results_list(tx, player(n), all, None, 11)
                .await);
            let after = Some(before_now(Duration::from_hours(24 * 365)));
            assert_reads!(tx, 36, "results_list", |n| results_list(tx, player(n), all, after, 11)
                .await);
            assert_reads!(tx, 18, "results_list against a player", |n| {
                let filter = ResultFilter {
                    opponent_id: Some(player(n + 1)),
                    ..all
                };
                results_list(tx, player(n), filter, None, 50).await
            });
            assert_reads!(tx, 18, "results_against", |n| results_against(
                tx,
                player(n),
                player(n + 1)
            )
            .await);
            Ok(())
        });
        done.expect("committed");
    });
}

#[test]
fn sweeps_read_only_the_rows_they_process() {
    block_on(async {
        let database = filled().await;
        let now = Clock::system().now();
        let done: db::Result<()> = write_tx!(database.db(), |tx| {
            let mut after = None;
            assert_reads!(tx, 100, "games_due", |n| {
                games_due(tx, now, after, 100).await.inspect(|due| {
                    assert_eq!(due.len(), 100, "batch {n}");
                    after = Some((due[99].0, due[99].1));
                })
            });
            assert_reads!(tx, 400, "games_postpone", |n| {
                let some: Vec<GameId> = (0..100).map(|i| game(1000 * n + 10 * i)).collect();
                games_postpone(tx, &some).await
            });
            Ok(())
        });
        done.expect("committed");
    });
}

#[test]
fn a_missing_index_is_noticed() {
    block_on(async {
        let database = filled().await;
        run(database.db(), "DROP INDEX games_sweep_idx").await;
        let done: db::Result<()> = write_tx!(database.db(), |tx| {
            let (most, _) = most_read!(tx, _n, games_due(tx, Clock::system().now(), None, 100).await);
            assert!(most >= 2000, "{most}");
            Ok(())
        });
        done.expect("committed");
    });
}
