//! Deletion of guests who have been idle for too long.

use std::time::Duration;

use testing::{TestDatabase, on_both_backends};

use super::{guest, login_guest, upgrade, upgrade_to};
use crate::{
    support::{Server, callers::eventually, count, settings},
    users::calls::refresh,
};

const DAY: Duration = Duration::from_hours(24);
/// Delay beyond the stored time, because the clock of the process that stored it may differ.
const ALLOWANCE: Duration = Duration::from_secs(30);
const GUESTS: &str = "users WHERE is_guest";

/// Starts the service again this much later with these settings, and waits until this many guests
/// are left and all of them have been checked.
async fn assert_left(server: &Server, time: Duration, arguments: &[&str], expected: i64) {
    let running = server.restarted_after(time + ALLOWANCE, &settings(arguments)).await;
    let checked = format!("guest_credentials WHERE sweep_time <= {}", at(server, time));
    eventually(|| async {
        let db = server.database.db();
        (count(db, &checked).await == 0 && count(db, GUESTS).await == expected).then_some(())
    })
    .await;
    running.stop_token().cancel();
}

/// Returns the time this much after the start of the test, in SQL.
fn at(server: &Server, time: Duration) -> String {
    let time = crate::support::START.plus(time);
    match server.database.backend() {
        db::Backend::Sqlite => time.as_micros().to_string(),
        db::Backend::Postgres => format!("to_timestamp({})", time.as_seconds()),
    }
}

#[on_both_backends]
async fn idle_guests_are_deleted_and_active_ones_stay(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&["--guest-idle-days", "0"])).await;
    let (idle, rotating, refreshing, back) = (
        guest(&server).await,
        guest(&server).await,
        guest(&server).await,
        guest(&server).await,
    );
    let upgraded = guest(&server).await;
    upgrade(&server, &upgraded.access, upgrade_to("ann"))
        .await
        .expect("upgraded");
    server.clock.advance(6 * DAY);
    let pair = server.rotate(&rotating.refresh, "").await.expect("rotated");
    let other = server.rotate(&refreshing.refresh, "").await.expect("rotated");
    server.clock.advance(Duration::from_hours(12));
    refresh(&server, &other.refresh_token).await.expect("refreshed");
    // Not a day too early.
    assert_left(&server, 29 * DAY, &[], 4).await;
    server.clock.advance(23 * DAY);
    login_guest(&server, &back.credential).await.expect("logged in");
    assert_left(&server, 30 * DAY + ALLOWANCE, &[], 3).await;
    login_guest(&server, &idle.credential).await.expect_err("deleted");
    server.rotate(&pair.refresh_token, "").await.expect_err("expired");
    let events = "audit_events WHERE action = 'user.delete' AND actor_client_id = 'auth-service'";
    assert_eq!(count(server.database.db(), events).await, 1);
    let deleted = format!(
        "access_feed WHERE kind = 'user_changed' AND subject = '{}'",
        idle.user_id
    );
    assert_eq!(count(server.database.db(), &deleted).await, 1);
    assert_left(&server, 36 * DAY + ALLOWANCE, &[], 2).await;
    login_guest(&server, &rotating.credential).await.expect_err("deleted");
    assert_left(&server, 36 * DAY + Duration::from_hours(12) + ALLOWANCE, &[], 1).await;
    assert_left(&server, 59 * DAY + Duration::from_hours(12) + 2 * ALLOWANCE, &[], 0).await;
    server.login("ann").await;
}

#[on_both_backends]
async fn a_session_that_was_purged_still_counts_as_use(database: TestDatabase) {
    let short = ["--session-retention-days", "1", "--guest-idle-days", "30"];
    let server = Server::start_with(database, &settings(&["--guest-idle-days", "0"])).await;
    let guest = guest(&server).await;
    let mut refresh_token = guest.refresh.clone();
    for _ in 0..4 {
        server.clock.advance(6 * DAY);
        refresh_token = server.rotate(&refresh_token, "").await.expect("rotated").refresh_token;
    }
    // The checks come before the session is purged, and remember its last use on day 24.
    assert_left(&server, 25 * DAY, &short, 1).await;
    assert_left(&server, 31 * DAY + ALLOWANCE, &short, 1).await;
    let execute = "DELETE FROM sessions";
    crate::support::execute(&server, execute).await;
    assert_left(&server, 53 * DAY, &short, 1).await;
    assert_left(&server, 54 * DAY + ALLOWANCE, &short, 0).await;
}

#[on_both_backends]
async fn no_guest_is_deleted_while_the_clock_is_not_trusted(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&["--guest-idle-days", "0"])).await;
    let guest = guest(&server).await;
    let running = server.restarted_unsettled_after(400 * DAY).await;
    // Many transactions later, its jobs have begun.
    for _ in 0..20 {
        login_guest(&server, &guest.credential).await.expect("logged in");
    }
    running.stop_token().cancel();
    login_guest(&server, &guest.credential).await.expect("logged in");
}
