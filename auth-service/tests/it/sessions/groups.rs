//! Logins and rotations of many users at once. On PostgreSQL they are written in groups, and each
//! call gets what it would have got alone.

use std::{collections::BTreeSet, time::Duration};

use db::Backend;
use futures_util::future::join_all;
use proto::auth::v1::{LoginRequest, LoginResponse, LogoutRequest, TokenPair, auth_service_client::AuthServiceClient};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{reason, with_token},
};
use tonic::{Status, transport::Channel};

use crate::{
    guests::{guest, login_guest},
    support::{
        PASSWORD, Server,
        callers::{PATIENCE, eventually},
        count, credentials, execute, rotate, settings,
    },
    users::calls::{me, refresh},
};

/// Settings with which many logins from one address at once are admitted.
const UNLIMITED: [&str; 8] = [
    "--login-burst",
    "10000",
    "--login-free-attempts",
    "1000",
    "--login-address-free-attempts",
    "1000",
    "--registration-burst",
    "1000",
];

/// Transactions that began sessions of more than one user.
const GROUPS: &str = "(SELECT FROM sessions GROUP BY xmin::text HAVING count(DISTINCT user_id) > 1) AS groups";
/// Statements that wait for the lock of a table.
const WAITING: &str = "pg_locks WHERE NOT granted AND locktype = 'relation' \
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
/// Failures that still count.
const FAILURES: &str = "login_throttle WHERE failures > 0";
const LOGINS: &str = "audit_events WHERE action = 'session.login' AND outcome = 'success'";

/// Keeps group commits of logins from ending, until it is rolled back. Rolls back by itself if the
/// test fails.
async fn hold_logins(server: &Server) -> db::Transaction {
    let mut held = server.database.db().begin().await.expect("a transaction");
    let lock = diesel::sql_query("LOCK TABLE audit_events IN EXCLUSIVE MODE");
    let locked: db::Result<usize> = db::query!(held.conn(), |c| diesel_async::RunQueryDsl::execute(lock, c).await);
    locked.expect("locked");
    held
}

async fn login(mut client: AuthServiceClient<Channel>, request: LoginRequest) -> Result<LoginResponse, Status> {
    Ok(client.login(request).await?.into_inner())
}

/// Registers users and logs them out, so that their next login ends no session.
async fn logged_out(server: &Server, names: &[String]) -> Vec<String> {
    let mut devices = Vec::new();
    for name in names {
        let registered = server.register(name).await;
        let token = registered.tokens.expect("tokens").access_token;
        let out = server.auth().logout(with_token(LogoutRequest::default(), &token)).await;
        out.expect("logged out");
        devices.push(registered.device_token);
    }
    devices
}

#[on_both_backends]
async fn logins_at_once_get_what_each_would_get_alone(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&UNLIMITED)).await;
    let (_running, replica) = server.replica_ahead(0, &settings(&UNLIMITED)).await;
    let names: Vec<String> = (0..20).map(|number| format!("user{number}")).collect();
    let devices = logged_out(&server, &names).await;
    let mut guests = Vec::new();
    for _ in 0..10 {
        guests.push(guest(&server).await);
    }
    let before = count(server.database.db(), LOGINS).await;
    let logins = names.iter().zip(&devices).enumerate().map(|(number, (name, device))| {
        let mut request = credentials(name, PASSWORD);
        // Half of the users come from a device that is known.
        if number % 2 == 0 {
            request.device_token.clone_from(device);
        }
        let client = if number % 4 < 2 { server.auth() } else { replica.clone() };
        login(client, request)
    });
    let of_guests = guests.iter().map(|guest| login_guest(&server, &guest.credential));
    let (logins, of_guests) = tokio::join!(join_all(logins), join_all(of_guests));
    let mut seen = BTreeSet::new();
    for (number, answer) in logins.into_iter().enumerate() {
        let answer = answer.expect("logged in");
        let tokens = answer.tokens.expect("tokens");
        assert_eq!(answer.user.expect("a user").login, names[number]);
        assert_eq!(
            me(&server, &tokens.access_token).await.expect("me").login,
            names[number]
        );
        assert_eq!(answer.device_token == devices[number], number % 2 == 0);
        rotate(&mut server.auth(), &tokens.refresh_token, "")
            .await
            .expect("rotated");
        assert!(seen.insert(answer.device_token), "a device of its own");
    }
    for (guest, answer) in guests.iter().zip(of_guests) {
        let tokens = answer.expect("logged in").tokens.expect("tokens");
        assert_eq!(
            me(&server, &tokens.access_token).await.expect("me").user_id,
            guest.user_id
        );
    }
    let db = server.database.db();
    assert_eq!(count(db, LOGINS).await - before, 30);
    if db.backend() == Backend::Postgres {
        let of_own_session = "audit_events JOIN sessions ON details LIKE '%' || sessions.id || '%' \
                              AND subject_user_id = user_id WHERE action = 'session.login'";
        assert_eq!(count(db, of_own_session).await, before + 30);
    }
    // The address is the same for all.
    assert_eq!(count(db, FAILURES).await, 0);
}

#[on_both_backends]
async fn a_login_in_a_group_does_not_affect_the_others(database: TestDatabase) {
    if database.backend() == Backend::Sqlite {
        // SQLite writes each login by itself.
        return;
    }
    let limits = [&UNLIMITED[..], &["--max-sessions-per-user", "2"]].concat();
    let server = Server::start_with(database, &settings(&limits)).await;
    let name = |name: &str| name.to_owned();
    let plain: Vec<String> = (0..8).map(|number| format!("plain{number}")).collect();
    let others = ["deactivated", "changed", "protected", "locked", "cancelled", "twice"].map(name);
    // As many groups may be written at once. The other logins wait until these end.
    let at_once = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    let first: Vec<String> = (0..at_once.max(2)).map(|number| format!("first{number}")).collect();
    logged_out(&server, &first).await;
    logged_out(&server, &plain).await;
    logged_out(&server, &others).await;
    // The next login of this user ends a session.
    let full = server.register("full").await.tokens.expect("tokens");
    server.clock.advance(Duration::from_secs(1));
    server.login("full").await;
    let before = count(server.database.db(), LOGINS).await;

    let held = hold_logins(&server).await;
    let start = |name: &str| tokio::spawn(login(server.auth(), credentials(name, PASSWORD)));
    let mut started = Vec::new();
    for (waiting, name) in (1..).zip(&first) {
        started.push((name.clone(), start(name)));
        let db = server.database.db();
        eventually(|| async { (count(db, WAITING).await >= waiting).then_some(()) }).await;
    }
    let names = plain.iter().map(String::as_str);
    for name in names.chain([
        "deactivated",
        "changed",
        "protected",
        "locked",
        "full",
        "twice",
        "twice",
    ]) {
        started.push((name.to_owned(), start(name)));
    }
    let cancelled = start("cancelled");
    // Each login is counted as a failure until it succeeds, in a row of its own. One row is that of
    // the address, and one user comes twice.
    let counted = i64::try_from(started.len()).expect("few") + 1;
    let db = server.database.db();
    eventually(|| async { (count(db, FAILURES).await == counted).then_some(()) }).await;
    cancelled.abort();
    execute(
        &server,
        "UPDATE users SET is_active = false WHERE login = 'deactivated'",
    )
    .await;
    let change = "UPDATE users SET password_hash = 'x', token_version = token_version + 1 WHERE login = 'changed'";
    execute(&server, change).await;
    let add = "UPDATE users SET has_second_factor = true WHERE login = 'protected'";
    execute(&server, add).await;
    let mut locking = db.begin().await.expect("a transaction");
    let lock = diesel::sql_query("UPDATE users SET middle_name = 'x' WHERE login = 'locked'");
    let locked: db::Result<usize> = db::query!(locking.conn(), |c| diesel_async::RunQueryDsl::execute(lock, c).await);
    assert_eq!(locked.expect("locked"), 1);
    held.rollback().await;

    let mut logged_in: Vec<(String, TokenPair)> = Vec::new();
    let mut last = None;
    for (name, started) in started {
        if name == "locked" {
            // The others do not wait for it.
            last = Some(started);
            continue;
        }
        let answer = tokio::time::timeout(PATIENCE, started)
            .await
            .expect("an answer")
            .expect("joined");
        match answer {
            // The second factor was added after the password had been verified.
            Ok(answer) if name == "protected" => {
                assert!(answer.tokens.is_none() && answer.challenge.is_some());
            }
            Ok(answer) => logged_in.push((name, answer.tokens.expect("tokens"))),
            Err(refused) => {
                assert!(["deactivated", "changed"].contains(&name.as_str()), "{name}: {refused}");
                assert_eq!(reason(&refused), "CREDENTIALS_INVALID");
            }
        }
    }
    let last = last.expect("a login");
    assert!(!last.is_finished(), "the user's row is locked");
    locking.commit().await.expect("committed");
    let answer = last.await.expect("joined").expect("logged in");
    logged_in.push(("locked".to_owned(), answer.tokens.expect("tokens")));

    assert_eq!(logged_in.len(), first.len() + plain.len() + 4);
    for (name, tokens) in &logged_in {
        assert_eq!(me(&server, &tokens.access_token).await.expect("me").login, *name);
    }
    let ended = refresh(&server, &full.refresh_token)
        .await
        .expect_err("the longest idle session");
    assert_eq!(reason(&ended), "SESSION_ENDED");
    let db = server.database.db();
    for (name, sessions) in [
        ("full", 2),
        ("twice", 2),
        ("locked", 1),
        ("deactivated", 0),
        ("changed", 0),
        ("protected", 0),
    ] {
        let live = format!("sessions JOIN users ON users.id = user_id WHERE login = '{name}' AND end_time IS NULL");
        assert_eq!(count(db, &live).await, sessions, "{name}");
    }
    assert!(count(db, GROUPS).await > 0, "no two logins were written together");
    // The cancelled login is either done or not.
    let of_cancelled = "sessions JOIN users ON users.id = user_id WHERE login = 'cancelled' AND end_time IS NULL";
    let expected = before + i64::try_from(logged_in.len()).expect("few");
    eventually(|| async {
        let done = count(db, of_cancelled).await;
        (count(db, LOGINS).await == expected + done).then_some(())
    })
    .await;
}

#[on_both_backends]
async fn logins_of_a_user_at_once_keep_the_limit_of_sessions(database: TestDatabase) {
    let limits = [&UNLIMITED[..], &["--max-sessions-per-user", "5"]].concat();
    let server = Server::start_with(database, &settings(&limits)).await;
    let (_running, replica) = server.replica_ahead(0, &settings(&limits)).await;
    let names: Vec<String> = (0..4).map(|number| format!("user{number}")).collect();
    logged_out(&server, &names).await;
    let logins = (0..48).map(|number| {
        let client = if number % 8 < 4 { server.auth() } else { replica.clone() };
        login(client, credentials(&names[number % 4], PASSWORD))
    });
    for answer in join_all(logins).await {
        answer.expect("logged in");
    }
    let db = server.database.db();
    for name in &names {
        let of_user = format!("sessions JOIN users ON users.id = user_id WHERE login = '{name}'");
        assert_eq!(count(db, &format!("{of_user} AND end_time IS NULL")).await, 5);
        // The first session of each was logged out.
        assert_eq!(count(db, &of_user).await, 13);
    }
}

#[on_both_backends]
async fn cancelled_logins_are_done_completely_or_not_at_all(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&UNLIMITED)).await;
    let names: Vec<String> = (0..10).map(|number| format!("user{number}")).collect();
    logged_out(&server, &names).await;
    let db = server.database.db();
    let before = [count(db, "sessions").await, count(db, LOGINS).await];
    for round in 0..5_u64 {
        let logins = names.iter().zip(0..).map(|(name, number)| {
            let patience = Duration::from_micros(500 * (round + 1) * number);
            tokio::time::timeout(patience, login(server.auth(), credentials(name, PASSWORD)))
        });
        join_all(logins).await;
    }
    // A login of each user comes after all of those that were cancelled.
    for name in &names {
        server.login(name).await;
    }
    eventually(|| async {
        let after = [count(db, "sessions").await, count(db, LOGINS).await];
        (after[0] - before[0] == after[1] - before[1]).then_some(())
    })
    .await;
}

#[on_both_backends]
async fn mixed_groups_of_two_replicas_lose_no_session(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&UNLIMITED)).await;
    let (_running, replica) = server.replica_ahead(0, &settings(&UNLIMITED)).await;
    let names: Vec<String> = (0..24).map(|number| format!("user{number}")).collect();
    logged_out(&server, &names).await;
    // Each user logs in, rotates, refreshes and may log out, while the others do so.
    let lives = names.iter().enumerate().map(|(number, name)| {
        let mut clients = [server.auth(), replica.clone()];
        clients.rotate_left(number % 2);
        async move {
            let [mut here, mut there] = clients;
            let answer = login(here.clone(), credentials(name, PASSWORD))
                .await
                .expect("logged in");
            let mut pair = answer.tokens.expect("tokens");
            for _ in 0..6 {
                pair = rotate(&mut there, &pair.refresh_token, "").await.expect("rotated");
                std::mem::swap(&mut here, &mut there);
            }
            let is_over = number % 3 == 0;
            if is_over {
                let refresh_token = pair.refresh_token.clone();
                there.logout(LogoutRequest { refresh_token }).await.expect("logged out");
            }
            (pair, is_over)
        }
    });
    let lives = join_all(lives).await;
    for (pair, is_over) in lives {
        let refreshed = refresh(&server, &pair.refresh_token).await;
        match refreshed {
            Ok(_) => assert!(!is_over, "a session lives on after its end"),
            Err(refused) => {
                assert!(is_over, "{refused}");
                assert_eq!(reason(&refused), "SESSION_ENDED");
            }
        }
    }
    let db = server.database.db();
    assert_eq!(count(db, "sessions WHERE end_time IS NULL AND counter = 7").await, 16);
    assert_eq!(
        count(db, "sessions WHERE end_time IS NOT NULL AND counter = 7").await,
        8
    );
}
