//! Tests that statements read little of large tables: PostgreSQL counts the rows that the plans of
//! the real statements read.

use std::collections::HashSet;

use base::{
    clock::{Clock, Timestamp},
    ids::{SessionId, UserId},
    page::{PageRequest, Position},
};
use db::{Backend, Db, prelude::*, query, query_postgres, write_tx};
use diesel_async::SimpleAsyncConnection as _;
use testing::{TestDatabase, block_on, rows_read};

use super::*;
use crate::model::{AuditFilter, UserFilter};

/// Number of rows in each table. With fewer, reading a whole table would be a good plan.
const ROWS: i64 = 20_000;
/// Executions of each statement. After five of them, PostgreSQL may switch to a generic plan.
const EXECUTIONS: usize = 7;

/// Users, each with a session and an event. A tenth of the sessions has ended, a tenth is due.
const FILL: &str = "
INSERT INTO users (id, login, login_folded, email, email_folded, password_hash, first_name, last_name, middle_name,
    is_active, token_version, create_time, update_time, search_folded, key_time)
SELECT id, login, login, login || '@mail.example', login || '@mail.example', 'x', 'Ann', 'Lee', '', true, 1, time, time,
    login || chr(10) || login || '@mail.example' || chr(10) || 'ann lee', time
FROM (SELECT lpad(to_hex(n), 32, '0')::uuid AS id, substr(md5(n::text), 1, 12) AS login,
    now() - interval '1 year' + n * interval '1 second' AS time FROM generate_series(1, 20000) AS n) AS made;
INSERT INTO user_roles (user_id, role_id) SELECT id, '00000000-0000-7000-8000-000000000003' FROM users;
INSERT INTO sessions (id, user_id, counter, is_used, create_time, rotate_time, expire_time, absolute_expire_time,
    end_time, end_reason, last_use_time, sweep_time)
SELECT id, id, 1, false, now(), now(), now() + interval '7 days', now() + interval '90 days', ended,
    CASE WHEN ended IS NOT NULL THEN 'logout' END, now(),
    now() + CASE WHEN n % 10 = 2 THEN -1 ELSE 1 END * random() * interval '1 day'
FROM (SELECT n, lpad(to_hex(n), 32, '0')::uuid AS id,
    CASE WHEN n % 10 = 1 THEN now() - random() * interval '60 days' END AS ended
    FROM generate_series(1, 20000) AS n) AS made;
INSERT INTO audit_events (id, event_time, action, outcome, reason, actor_user_id, actor_client_id, target_type,
    target_id, subject_user_id, ip_address, user_agent, request_id, details)
SELECT id, now() - random() * interval '60 days', 'session.create', 'success', '', id, '', 'session', '', id, '', '',
    '', '{}'
FROM (SELECT lpad(to_hex(n), 32, '0')::uuid AS id FROM generate_series(1, 20000) AS n) AS made;
INSERT INTO login_throttle (key, failures, blocked_until, expire_time)
SELECT sha256(n::text::bytea), 1, now(), now() + (random() - 0.5) * interval '2 days'
FROM generate_series(1, 20000) AS n;
INSERT INTO access_feed (sequence, kind, subject, event, expire_time)
SELECT n, 'session_revoked', n::text, '', now() + (random() - 0.5) * interval '2 days'
FROM generate_series(1, 20000) AS n;
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

fn user(number: usize) -> UserId {
    UserId::from_uuid(uuid::Uuid::from_u128(number as u128))
}

fn session(number: usize) -> SessionId {
    SessionId::from_uuid(uuid::Uuid::from_u128(number as u128))
}

/// Runs a statement again and again, and returns the most rows that it read, and how many of them
/// it read by scanning a whole table.
macro_rules! most_read {
    ($tx:ident, $number:ident, $statement:expr) => {{
        let tables = [
            "users",
            "user_roles",
            "sessions",
            "audit_events",
            "login_throttle",
            "access_feed",
        ];
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

/// Rows that PostgreSQL reads while it plans a join: those at both ends of some indexes.
const PLANNING: i64 = 20;

/// Asserts that a statement reads at most this many rows, but for those that planning reads, and
/// scans no table.
macro_rules! assert_reads {
    ($tx:ident, $limit:expr, $name:literal, |$number:ident| $statement:expr) => {
        let (most, by_scan) = most_read!($tx, $number, $statement);
        assert_eq!(by_scan, 0, "{} scans a table", $name);
        assert!(most <= $limit + PLANNING, "{} reads {most} rows", $name);
    };
}

const BATCH: i64 = 100;

fn page<K: base::ids::Kind>(after: Option<Position<K>>) -> PageRequest<K> {
    PageRequest { size: 50, after }
}

fn search(query: &str) -> UserFilter {
    UserFilter {
        query: query.to_owned(),
        ..UserFilter::default()
    }
}

/// Whether PostgreSQL has the extension by which users are searched for.
async fn has_trigrams(tx: &mut Conn) -> bool {
    let has = db::prepared::<diesel::sql_types::Bool>("SELECT to_regclass('users_search_idx') IS NOT NULL");
    query_postgres!(tx, |c| has.get_result(c).await).expect("an answer")
}

#[test]
fn calls_read_few_rows_of_large_tables() {
    block_on(async {
        let database = filled().await;
        let now = Clock::system().now();
        let done: db::Result<()> = write_tx!(database.db(), |tx| {
            assert_reads!(tx, 1, "user_by_id", |n| user_by_id(tx, user(1000 * n)).await);
            assert_reads!(tx, 1, "user_by_login", |n| user_by_login(tx, &format!("login{n}"))
                .await);
            assert_reads!(tx, 1, "user_by_email", |n| user_by_email(tx, &format!("{n}@a.b")).await);
            assert_reads!(tx, 4, "users_with_holdings", |n| users_with_holdings(
                tx,
                &[user(1000 * n)]
            )
            .await);
            assert_reads!(tx, 4, "sessions_with_holdings", |n| {
                sessions_with_holdings(tx, &[session(1000 * n)]).await
            });
            assert_reads!(tx, 2, "sessions_unended", |n| sessions_unended(tx, user(1000 * n))
                .await);
            assert_reads!(tx, 2, "device_uses", |n| device_uses(tx, user(1000 * n), 10).await);
            assert_reads!(tx, 2, "sessions_list", |n| {
                sessions_list(tx, user(1000 * n), Some(now), &page(None)).await
            });
            assert_reads!(tx, 4, "sessions_forget_ended", |n| sessions_forget_ended(
                tx,
                user(1000 * n),
                5
            )
            .await);
            assert_reads!(tx, 2, "users_lock_together", |n| {
                users_lock_together(tx, &[user(1000 * n), user(1000 * n + 1)]).await
            });
            assert_reads!(tx, 8, "users_record_logins", |n| {
                let room = SessionRoom {
                    max_unended: 20,
                    max_ended: 500,
                    devices: &[],
                };
                let ids = [user(1000 * n + 2), user(1000 * n + 3)];
                let recorded = users_record_logins(tx, &ids, room, now).await;
                recorded.inspect(|users| assert_eq!(users.len(), 2, "in run {n}"))
            });
            let newest = AuditFilter::default();
            assert_reads!(tx, 51, "audit_list", |_n| audit_list(tx, &page(None), &newest).await);
            let after = Some(Position {
                time: now.minus(std::time::Duration::from_hours(24 * 30)),
                id: crate::ids::AuditEventId::generate(),
            });
            assert_reads!(tx, 51, "audit_list", |_n| audit_list(tx, &page(after), &newest).await);
            for is_actor in [true, false] {
                assert_reads!(tx, 1, "audit_list of a user", |n| {
                    let filter = AuditFilter {
                        actor_user_id: is_actor.then(|| user(1000 * n)),
                        subject_user_id: (!is_actor).then(|| user(1000 * n)),
                        ..AuditFilter::default()
                    };
                    audit_list(tx, &page(None), &filter).await
                });
            }
            Ok(())
        });
        done.expect("committed");
    });
}

#[test]
fn searches_read_few_of_many_users() {
    block_on(async {
        let database = filled().await;
        let done: db::Result<()> = write_tx!(database.db(), |tx| {
            let all = UserFilter::default();
            assert_reads!(tx, 51, "users_list", |_n| users_list(tx, &page(None), &all).await);
            let common = search("mail.ex");
            // The newest 1000 show that it is common.
            assert_reads!(tx, 1051, "a search for a common text", |_n| {
                users_list(tx, &page(None), &common).await
            });
            if !has_trigrams(tx).await {
                return Ok(());
            }
            // md5 of a number as text.
            let rare = [
                "4ca4238a0b",
                "1e728d9d4c",
                "ccbc87e4b5",
                "87ff679a2f",
                "4da3b7fbbc",
                "679091c5a8",
                "f14e45fcee",
            ];
            let mut found = HashSet::new();
            assert_reads!(tx, 1050, "a search for a rare text", |n| {
                let listed = users_list(tx, &page(None), &search(rare[n - 1])).await;
                listed.inspect(|users| found.extend(users.iter().map(|user| user.id)))
            });
            assert_eq!(found.len(), rare.len());
            // The halves of this text are in one login, but not side by side.
            let apart = users_list(tx, &page(None), &search("c4caa0b9")).await?;
            assert!(apart.is_empty(), "{apart:?}");
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
        let month = now.minus(std::time::Duration::from_hours(24 * 30));
        let done: db::Result<()> = write_tx!(database.db(), |tx| {
            let mut from = Timestamp::EPOCH;
            assert_reads!(tx, BATCH, "sessions_due", |n| {
                sessions_due(tx, from, now, BATCH).await.inspect(|due| {
                    assert_eq!(due.len(), 100, "batch {n}");
                    from = due[99].sweep_time;
                })
            });
            assert_reads!(tx, 4 * BATCH, "sessions_postpone", |n| {
                let some: Vec<_> = (0..100).map(|i| session(100 * n + i)).collect();
                sessions_postpone(tx, &some).await
            });
            let mut from = Timestamp::EPOCH;
            assert_reads!(tx, BATCH, "sessions_dead", |n| {
                sessions_dead(tx, Dead::Ended, from, month, BATCH)
                    .await
                    .inspect(|dead| {
                        assert_eq!(dead.len(), 100, "batch {n}");
                        from = dead[99].1;
                    })
            });
            assert_reads!(tx, BATCH, "sessions_dead", |_n| {
                sessions_dead(tx, Dead::Expired, Timestamp::EPOCH, month, BATCH).await
            });
            assert_reads!(tx, 2, "session_delete", |n| session_delete(tx, session(1000 * n)).await);
            assert_reads!(tx, 1001, "sessions_count_unended", |n| {
                let counted = sessions_count_unended(tx).await;
                counted.inspect(|count| assert!((17_000..=19_000).contains(count), "{count} in run {n}"))
            });
            let mut after = None;
            assert_reads!(tx, 2 * BATCH, "audit_delete_before", |n| {
                audit_delete_before(tx, after, month, BATCH).await.inspect(|last| {
                    assert!(last.is_some(), "nothing in batch {n}");
                    after = *last;
                })
            });
            let mut from = Timestamp::EPOCH;
            assert_reads!(tx, BATCH, "throttles_expired", |n| {
                throttles_expired(tx, from, now, BATCH).await.inspect(|expired| {
                    assert_eq!(expired.len(), 100, "batch {n}");
                    from = expired[99].1;
                })
            });
            let mut from = Timestamp::EPOCH;
            assert_reads!(tx, 2 * BATCH, "feed_purge", |n| {
                feed_purge(tx, from, now, ROWS, BATCH)
                    .await
                    .inspect(|last| from = last.unwrap_or_else(|| panic!("nothing in batch {n}")))
            });
            assert_reads!(tx, 51, "feed_after", |_n| feed_after(tx, 15_000, 50).await);
            Ok(())
        });
        done.expect("committed");
    });
}

#[test]
fn a_missing_index_is_noticed() {
    block_on(async {
        let database = filled().await;
        let month = Clock::system().now().minus(std::time::Duration::from_hours(24 * 30));
        run(database.db(), "DROP INDEX sessions_end_time_idx").await;
        run(database.db(), "DROP INDEX IF EXISTS users_search_idx").await;
        let done: db::Result<()> = write_tx!(database.db(), |tx| {
            let (most, by_scan) = most_read!(tx, _n, {
                sessions_dead(tx, Dead::Ended, Timestamp::EPOCH, month, BATCH).await
            });
            assert_eq!((most, by_scan), (ROWS, ROWS));
            let (most, _) = most_read!(tx, _n, { users_list(tx, &page(None), &search("4ca4238a0b")).await });
            assert!(most > ROWS, "{most}");
            Ok(())
        });
        done.expect("committed");
    });
}
