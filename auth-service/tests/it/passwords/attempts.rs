//! Limits on guessing passwords.

use std::{collections::BTreeMap, time::Duration};

use auth_service::config::AuthSettings;
use proto::auth::v1::{
    ChangePasswordRequest, GetClientAddressRequest, LoginRequest, LoginResponse, UnlockUserRequest,
    auth_service_client::AuthServiceClient, user_service_client::UserServiceClient,
};
use server::ServerSettings;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{channel, reason, with_token},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{PASSWORD, Server, credentials, dump, registration, settings};

pub(super) const WRONG: &str = "wrong horse";

/// Returns settings without a limit of calls per address.
pub(super) fn no_address_limit(arguments: &[&str]) -> AuthSettings {
    let unlimited = ["--login-rate-per-minute", "0", "--hashing-queue", "1000"];
    settings(&[unlimited.as_slice(), arguments].concat())
}

pub(super) async fn try_login(
    client: &mut AuthServiceClient<Channel>,
    identifier: &str,
    password: &str,
) -> Result<LoginResponse, Status> {
    Ok(client.login(credentials(identifier, password)).await?.into_inner())
}

/// Makes this many wrong guesses, and counts the refusals by reason.
pub(super) async fn guesses(server: &Server, identifier: &str, count: usize) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for _ in 0..count {
        let refused = try_login(&mut server.auth(), identifier, WRONG)
            .await
            .expect_err("refused");
        *reasons.entry(reason(&refused)).or_default() += 1;
    }
    reasons
}

/// Returns the wait that a refusal asks for. Fails if its reason is not TOO_MANY_ATTEMPTS.
pub(super) fn wait(refused: &Status) -> Duration {
    assert_eq!(
        (refused.code(), reason(refused)),
        (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS".to_owned())
    );
    let info = refused.get_details_retry_info().expect("a RetryInfo");
    info.retry_delay.expect("a delay")
}

fn behind_a_proxy() -> ServerSettings {
    ServerSettings {
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..ServerSettings::default()
    }
}

fn from<T>(address: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("x-forwarded-for", address.parse().expect("ASCII"));
    request
}

#[on_both_backends]
async fn a_blocked_account_refuses_even_the_right_password_until_the_wait_is_over(database: TestDatabase) {
    let server = Server::start_with(database, &no_address_limit(&[])).await;
    server.register("ann").await;
    assert_eq!(
        guesses(&server, "ann", 10).await,
        BTreeMap::from([("CREDENTIALS_INVALID".to_owned(), 10)])
    );
    for seconds in [1, 2, 4, 8] {
        let refused = try_login(&mut server.auth(), "Ann", PASSWORD)
            .await
            .expect_err("blocked");
        assert_eq!(wait(&refused), Duration::from_secs(seconds));
        server.clock.advance(Duration::from_millis(seconds * 1000 - 1));
        let refused = try_login(&mut server.auth(), "ann", PASSWORD)
            .await
            .expect_err("blocked");
        assert_eq!(wait(&refused), Duration::from_millis(1));
        server.clock.advance(Duration::from_millis(1));
        let refused = try_login(&mut server.auth(), "ann", WRONG).await.expect_err("wrong");
        assert_eq!(reason(&refused), "CREDENTIALS_INVALID");
    }
    server.clock.advance(Duration::from_secs(16));
    try_login(&mut server.auth(), "ann", PASSWORD).await.expect("let in");
    // The successful login has reset the counter.
    assert_eq!(
        guesses(&server, "ann", 10).await,
        BTreeMap::from([("CREDENTIALS_INVALID".to_owned(), 10)])
    );
}

#[on_both_backends]
async fn guesses_from_elsewhere_do_not_block_a_known_device(database: TestDatabase) {
    let server = Server::start_with(database, &no_address_limit(&[])).await;
    let admin = server.superuser().await;
    let registered = server.register("ann").await;
    let (ann, device) = (registered.user.expect("a user").user_id, registered.device_token);
    let bobs = server.register("bob").await.device_token;
    let from = async |device_token: &str, password: &str| {
        let request = LoginRequest {
            device_token: device_token.to_owned(),
            ..credentials("ann", password)
        };
        server.auth().login(request).await.map(drop)
    };
    // Guesses from elsewhere block every login that comes without the user's own device: without a
    // device token, with an invented one, or with another user's.
    guesses(&server, "ann", 50).await;
    for foreign in ["", "x", &bobs] {
        wait(&from(foreign, PASSWORD).await.expect_err("blocked"));
    }
    for _ in 0..3 {
        from(&device, PASSWORD).await.expect("let in on the known device");
    }
    wait(&from("", PASSWORD).await.expect_err("elsewhere it is still blocked"));
    // The device has a counter of its own, which an administrator clears together with the others.
    for _ in 0..10 {
        assert_eq!(
            reason(&from(&device, WRONG).await.expect_err("wrong")),
            "CREDENTIALS_INVALID"
        );
    }
    wait(&from(&device, PASSWORD).await.expect_err("blocked on the device, too"));
    let mut users = UserServiceClient::new(channel(server.grpc));
    users
        .unlock_user(with_token(UnlockUserRequest { user_id: ann }, &admin))
        .await
        .expect("unlocked");
    from(&device, PASSWORD).await.expect("let in");
    from("", PASSWORD).await.expect("let in");
}

#[on_both_backends]
async fn known_devices_are_limited_and_forgotten_on_a_password_change(database: TestDatabase) {
    let server = Server::start_with(database, &no_address_limit(&["--max-sessions-per-user", "3"])).await;
    server.register("ann").await;
    let login = async |device_token: &str, password: &str| {
        let request = LoginRequest {
            device_token: device_token.to_owned(),
            ..credentials("ann", password)
        };
        server.auth().login(request).await.map(tonic::Response::into_inner)
    };
    let mut devices = Vec::new();
    for _ in 0..6 {
        server.clock.advance(Duration::from_secs(1));
        devices.push(login("", PASSWORD).await.expect("logged in"));
    }
    guesses(&server, "ann", 10).await;
    // Only as many devices have a counter of their own as the user may have sessions.
    for (index, device) in devices.iter().enumerate() {
        let refused = reason(&login(&device.device_token, WRONG).await.expect_err("wrong"));
        assert_eq!(
            refused,
            if index < 3 {
                "TOO_MANY_ATTEMPTS"
            } else {
                "CREDENTIALS_INVALID"
            },
            "{index}"
        );
    }
    // A password change makes the earlier devices unknown, except for the one in use.
    let current = devices.last().expect("six");
    let change = ChangePasswordRequest {
        current_password: PASSWORD.to_owned(),
        new_password: "another horse".to_owned(),
        new_password_confirmation: "another horse".to_owned(),
    };
    let token = &current.tokens.as_ref().expect("tokens").access_token;
    server
        .account()
        .change_password(with_token(change, token))
        .await
        .expect("changed");
    for device in &devices[..5] {
        wait(
            &login(&device.device_token, "another horse")
                .await
                .expect_err("blocked like everybody else"),
        );
    }
    login(&current.device_token, "another horse").await.expect("let in");
}

#[on_both_backends]
async fn the_wait_has_an_upper_limit(database: TestDatabase) {
    let server = Server::start_with(
        database,
        &no_address_limit(&["--login-free-attempts", "1", "--login-max-delay-seconds", "3"]),
    )
    .await;
    server.register("ann").await;
    for seconds in [1, 2, 3, 3] {
        guesses(&server, "ann", 1).await;
        let refused = try_login(&mut server.auth(), "ann", PASSWORD)
            .await
            .expect_err("blocked");
        assert_eq!(wait(&refused), Duration::from_secs(seconds));
        server.clock.advance(Duration::from_secs(seconds));
    }
    try_login(&mut server.auth(), "ann", PASSWORD).await.expect("let in");
}

#[on_both_backends]
async fn failures_are_forgotten_after_a_day(database: TestDatabase) {
    let server = Server::start_with(database, &no_address_limit(&[])).await;
    guesses(&server, "nobody", 9).await;
    server.clock.advance(Duration::from_hours(24));
    assert_eq!(
        guesses(&server, "nobody", 11).await.get("CREDENTIALS_INVALID"),
        Some(&10)
    );
}

#[on_both_backends]
async fn concurrent_guesses_get_no_more_attempts_than_sequential_ones(database: TestDatabase) {
    let server = Server::start_with(database, &no_address_limit(&[])).await;
    server.register("ann").await;
    let storm: Vec<_> = (0..200)
        .map(|_| {
            let mut client = server.auth();
            tokio::spawn(async move { try_login(&mut client, "ann", WRONG).await.expect_err("refused") })
        })
        .collect();
    let mut reasons = BTreeMap::<String, usize>::new();
    for guess in storm {
        *reasons.entry(reason(&guess.await.expect("joined"))).or_default() += 1;
    }
    let expected = BTreeMap::from([
        ("CREDENTIALS_INVALID".to_owned(), 10),
        ("TOO_MANY_ATTEMPTS".to_owned(), 190),
    ]);
    assert_eq!(reasons, expected);
}

#[on_both_backends]
async fn failures_are_counted_across_restarts_and_replicas(database: TestDatabase) {
    let server = Server::start_with(database, &no_address_limit(&[])).await;
    server.register("ann").await;
    guesses(&server, "ann", 5).await;
    let (_running, mut replica) = server.replica().await;
    for _ in 0..5 {
        assert_eq!(
            reason(&try_login(&mut replica, "ann", WRONG).await.expect_err("wrong")),
            "CREDENTIALS_INVALID"
        );
    }
    for client in [&mut replica, &mut server.auth()] {
        wait(&try_login(client, "ann", PASSWORD).await.expect_err("blocked"));
    }
}

#[on_both_backends]
async fn unknown_accounts_are_blocked_like_existing_ones(database: TestDatabase) {
    let server = Server::start_with(database, &no_address_limit(&[])).await;
    server.register("ann").await;
    let mut answers = Vec::new();
    for identifier in ["ann", "ann@example.test", "nobody", "nobody@example.test"] {
        // Each identifier has a counter of its own. A shared counter would reveal that a login and
        // an address belong to the same user.
        assert_eq!(guesses(&server, identifier, 10).await.len(), 1, "{identifier}");
        let refused = try_login(&mut server.auth(), identifier, WRONG)
            .await
            .expect_err("blocked");
        answers.push((wait(&refused), refused.message().to_owned()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[on_both_backends]
async fn an_address_has_more_free_failures_than_an_account_and_successes_do_not_count(database: TestDatabase) {
    let server = Server::start_with(database, &no_address_limit(&["--login-address-free-attempts", "12"])).await;
    server.register("ann").await;
    for _ in 0..20 {
        try_login(&mut server.auth(), "ann", PASSWORD).await.expect("logged in");
    }
    for number in 0..12 {
        guesses(&server, &format!("nobody-{number}"), 1).await;
    }
    wait(
        &try_login(&mut server.auth(), "ann", PASSWORD)
            .await
            .expect_err("blocked"),
    );
    server.clock.advance(Duration::from_secs(1));
    try_login(&mut server.auth(), "ann", PASSWORD).await.expect("let in");
    // The address had only one attempt left, and got it back after the successful login.
    try_login(&mut server.auth(), "ann", PASSWORD).await.expect("let in");
    for number in 0..9 {
        guesses(&server, &format!("somebody-{number}"), 1).await;
        server.clock.advance(Duration::from_mins(1));
    }
    // An address never waits for longer than a minute, however many failures there were.
    try_login(&mut server.auth(), "ann", PASSWORD).await.expect("let in");
}

#[on_both_backends]
async fn logins_and_registrations_are_limited_per_address(database: TestDatabase) {
    let narrow = settings(&[
        "--login-rate-per-minute",
        "1",
        "--login-burst",
        "2",
        "--registration-rate-per-minute",
        "1",
        "--registration-burst",
        "1",
    ]);
    let behind = ServerSettings {
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..ServerSettings::default()
    };
    let server = Server::start_limited(database, &narrow, &behind).await;
    let from = |address: &str, login: &str| {
        let mut request = Request::new(credentials(login, WRONG));
        request
            .metadata_mut()
            .insert("x-forwarded-for", address.parse().expect("ASCII"));
        request
    };
    for (address, expected) in [
        ("192.0.2.1", "CREDENTIALS_INVALID"),
        ("192.0.2.1", "CREDENTIALS_INVALID"),
        ("192.0.2.1", "TOO_MANY_ATTEMPTS"),
        ("6.6.6.6, 192.0.2.1", "TOO_MANY_ATTEMPTS"),
        ("192.0.2.2", "CREDENTIALS_INVALID"),
        ("2001:db8:1:2::1", "CREDENTIALS_INVALID"),
        ("2001:db8:1:2::2", "CREDENTIALS_INVALID"),
        ("2001:db8:1:2:ffff::3", "TOO_MANY_ATTEMPTS"),
        ("2001:db8:1:3::1", "CREDENTIALS_INVALID"),
        // Behind NAT64, the embedded IPv4 address is counted.
        ("64:ff9b::192.0.2.1", "TOO_MANY_ATTEMPTS"),
        ("64:ff9b::192.0.2.3", "CREDENTIALS_INVALID"),
    ] {
        let refused = server.auth().login(from(address, "nobody")).await.expect_err("refused");
        assert_eq!(reason(&refused), expected, "{address}");
    }
    server.register("ann").await;
    let refused = server.auth().register(registration("bob")).await.expect_err("refused");
    assert!(wait(&refused) > Duration::from_secs(30));
}

#[on_both_backends]
async fn ipv6_networks_are_limited_without_locking_out_known_devices(database: TestDatabase) {
    let narrow = settings(&[
        "--login-rate-per-minute",
        "1",
        "--login-burst",
        "1",
        "--login-address-free-attempts",
        "1000",
    ]);
    let server = Server::start_limited(database, &narrow, &behind_a_proxy()).await;
    let mut devices = Vec::new();
    for login in ["ann", "bob"] {
        let registered = server
            .auth()
            .register(from("198.51.100.1", registration(login)))
            .await
            .expect("registered");
        devices.push(registered.into_inner().device_token);
    }
    let try_from = async |address: &str, credentials: LoginRequest| {
        let answer = server.auth().login(from(address, credentials)).await;
        answer.map_or_else(|status| reason(&status), |_| "OK".to_owned())
    };
    // Guesses concurrently from more /56 networks than the /48 has calls for. Returns as soon as
    // one guess is refused.
    let exhaust = async |round: u32| {
        let mut guesses = JoinSet::new();
        for number in 0..40 {
            let mut client = server.auth();
            let address = format!("2001:db8:bad:{:x}::1", (round * 40 + number) * 0x100);
            guesses.spawn(async move {
                client
                    .login(from(&address, credentials("nobody", WRONG)))
                    .await
                    .expect_err("nobody")
            });
        }
        while let Some(refused) = guesses.join_next().await {
            if reason(&refused.expect("joined")) == "TOO_MANY_ATTEMPTS" {
                // The other guesses go on, and use up the remaining calls.
                return guesses.detach_all();
            }
        }
        panic!("the network has no limit");
    };
    exhaust(0).await;
    let inside = |number: u32| format!("2001:db8:bad:f{number:03x}::1");
    assert_eq!(
        try_from(&inside(1), credentials("ann", PASSWORD)).await,
        "TOO_MANY_ATTEMPTS"
    );
    let with = |device: &str| LoginRequest {
        device_token: device.to_owned(),
        ..credentials("ann", PASSWORD)
    };
    assert_eq!(try_from(&inside(2), with(&devices[0])).await, "OK");
    // The calls of the first device do not lock out a second device of the same user.
    let second = server
        .auth()
        .login(from("198.51.100.3", credentials("ann", PASSWORD)))
        .await
        .expect("let in")
        .into_inner();
    assert_eq!(try_from(&inside(2), with(&second.device_token)).await, "OK");
    // The device has a limit of its own. The device token of another user does not bypass the
    // limits of the network.
    assert_eq!(try_from(&inside(3), with(&devices[0])).await, "TOO_MANY_ATTEMPTS");
    exhaust(1).await;
    assert_eq!(try_from(&inside(4), with(&devices[1])).await, "TOO_MANY_ATTEMPTS");
    assert_eq!(try_from("198.51.100.2", credentials("ann", PASSWORD)).await, "OK");
}

#[on_both_backends]
async fn guesses_from_one_network_do_not_keep_others_out_of_the_queue(database: TestDatabase) {
    // A hash takes some milliseconds, and only one is computed at a time. The guessers fill the
    // queue many times over.
    let small = [
        "--login-rate-per-minute",
        "0",
        "--login-address-free-attempts",
        "100000",
        "--hashing-workers",
        "1",
        "--hashing-queue",
        "4",
        "--hashing-memory-kib",
        "4096",
    ];
    let server = Server::start_limited(database, &settings(&small), &behind_a_proxy()).await;
    for login in ["ann", "bob"] {
        server
            .auth()
            .register(from("198.51.100.1", registration(login)))
            .await
            .expect("registered");
    }
    let stop = CancellationToken::new();
    let guessers: Vec<_> = (0..16)
        .map(|guesser| {
            let (mut client, stop) = (server.auth(), stop.clone());
            tokio::spawn(async move {
                let mut full = 0;
                for guess in 0.. {
                    if stop.is_cancelled() {
                        break;
                    }
                    let (address, name) = (
                        format!("2001:db8:bad:{:x}::1", guesser * 1000 + guess),
                        format!("guessed-{guesser}-{guess}"),
                    );
                    let refused = client
                        .login(from(&address, credentials(&name, WRONG)))
                        .await
                        .expect_err("nobody");
                    full += u32::from(reason(&refused) == "HASHING_QUEUE_FULL");
                }
                full
            })
        })
        .collect();
    for number in 0..6 {
        let (address, login) = if number % 2 == 0 {
            ("198.51.100.7", "ann")
        } else {
            ("2001:db8:1:1::1", "bob")
        };
        let answer = server.auth().login(from(address, credentials(login, PASSWORD))).await;
        answer.unwrap_or_else(|status| panic!("{number}: {status}"));
    }
    stop.cancel();
    let mut full = 0;
    for guesser in guessers {
        full += guesser.await.expect("joined");
    }
    assert!(full > 0, "the guessers have filled the queue");
}

#[on_both_backends]
async fn forwarded_addresses_are_ignored_without_a_trusted_proxy(database: TestDatabase) {
    let server = Server::start_with(
        database,
        &settings(&["--login-rate-per-minute", "1", "--login-burst", "2"]),
    )
    .await;
    let mut last = String::new();
    for number in 0..3 {
        let mut request = Request::new(credentials("nobody", WRONG));
        request
            .metadata_mut()
            .insert("x-forwarded-for", format!("192.0.2.{number}").parse().expect("ASCII"));
        last = reason(&server.auth().login(request).await.expect_err("refused"));
    }
    assert_eq!(last, "TOO_MANY_ATTEMPTS");
}

#[on_both_backends]
async fn attempt_counters_do_not_store_identifiers(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&[])).await;
    guesses(&server, "somebody.else", 3).await;
    let dump = dump(&server.database).await;
    assert!(dump.contains("CREDENTIALS_INVALID"), "the dump has the audit log");
    assert!(!dump.contains("somebody.else"));
}

#[on_both_backends]
async fn get_client_address_returns_the_address_of_the_caller(database: TestDatabase) {
    let behind = ServerSettings {
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..ServerSettings::default()
    };
    let trusting = Server::start_limited(database, &settings(&[]), &behind).await;
    let plain = Server::start(TestDatabase::create(trusting.database.backend(), &auth_service::MIGRATIONS).await).await;
    for (server, forwarded, address, bucket) in [
        (&plain, "192.0.2.7", "127.0.0.1", "127.0.0.1"),
        (&trusting, "192.0.2.7", "192.0.2.7", "192.0.2.7"),
        (&trusting, "6.6.6.6, 192.0.2.7, 127.0.0.9", "192.0.2.7", "192.0.2.7"),
        (
            &trusting,
            "2001:db8:1:2:3:4:5:6",
            "2001:db8:1:2:3:4:5:6",
            "2001:db8:1:2::/64",
        ),
        (&trusting, "64:ff9b::192.0.2.7", "64:ff9b::c000:207", "192.0.2.7"),
        (&trusting, "nonsense", "127.0.0.1", "127.0.0.1"),
    ] {
        let mut request = Request::new(GetClientAddressRequest {});
        request
            .metadata_mut()
            .insert("x-forwarded-for", forwarded.parse().expect("ASCII"));
        let answer = server
            .account()
            .get_client_address(request)
            .await
            .expect("an answer")
            .into_inner();
        assert_eq!(
            (
                answer.ip_address.as_str(),
                answer.limiter_bucket.as_str(),
                answer.peer_address.as_str()
            ),
            (address, bucket, "127.0.0.1"),
            "{forwarded}"
        );
    }
}
