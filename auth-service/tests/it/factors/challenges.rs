//! Logins that need a second factor.

use std::time::Duration;

use proto::auth::v1::{CompleteLoginResponse, LoginRequest, UnlockUserRequest};
use testing::{TestDatabase, on_both_backends, rpc::with_token};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::{App, challenge, complete, next_step, recovery, totp};
use crate::{
    support::{
        PASSWORD, Server,
        callers::{is, refusal},
        count, credentials, settings,
    },
    tokens::step_up::login_of,
    users::calls::{NEW, change, deactivate, me, users},
};

/// The user with the app, in the session in which it was added.
struct Ann {
    token: String,
    user_id: String,
}

async fn with_app(database: TestDatabase, arguments: &[&str]) -> (Server, App, Ann) {
    let server = Server::start_with(database, &settings(arguments)).await;
    let registered = server.register("ann").await;
    let token = registered.tokens.expect("tokens").access_token;
    let app = App::added(&server, &token).await;
    next_step(&server);
    let user_id = registered.user.expect("a user").user_id;
    (server, app, Ann { token, user_id })
}

#[on_both_backends]
async fn a_challenge_is_good_once_at_every_replica(database: TestDatabase) {
    let (server, app, _) = with_app(database, &[]).await;
    let (_running, mut other) = server.replica().await;
    let needed = challenge(&server, "ann").await;
    assert_eq!(
        (needed.methods.len(), needed.enrol, needed.email_code_required),
        (2, false, false)
    );
    let completed = complete(&mut other, &needed, totp(&app.code(&server)))
        .await
        .expect("logged in");
    let token = completed.tokens.expect("tokens").access_token;
    assert_eq!(me(&server, &token).await.expect("me").login, "ann");
    let [_, methods, acr] = login_of(&token);
    assert_eq!(methods, serde_json::json!(["pwd", "otp", "mfa"]));
    assert_eq!(acr, serde_json::json!("2"));
    assert!(completed.recovery_codes.is_empty() && !completed.device_token.is_empty());
    next_step(&server);
    let again = complete(&mut server.auth(), &needed, totp(&app.code(&server))).await;
    assert_eq!(refusal(again), is(Code::Unauthenticated, "LOGIN_CHALLENGE_INVALID"));
    assert_eq!(count(server.database.db(), "login_challenges").await, 0);
}

#[on_both_backends]
async fn a_code_is_good_once(database: TestDatabase) {
    let (server, app, _) = with_app(database, &[]).await;
    let (one, two) = (challenge(&server, "ann").await, challenge(&server, "ann").await);
    let code = app.code(&server);
    complete(&mut server.auth(), &one, totp(&code))
        .await
        .expect("logged in");
    let replayed = complete(&mut server.auth(), &two, totp(&code)).await;
    assert_eq!(refusal(replayed), is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"));
    next_step(&server);
    // The code before is still shown by a clock that is behind, but was used.
    let replayed = complete(&mut server.auth(), &two, totp(&code)).await;
    assert_eq!(refusal(replayed), is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"));
    complete(&mut server.auth(), &two, totp(&app.code(&server)))
        .await
        .expect("logged in");
}

/// Settings with which many calls from one address at once are admitted.
const UNLIMITED: [&str; 4] = ["--login-rate-per-minute", "0", "--login-free-attempts", "1000"];

#[on_both_backends]
async fn one_of_fifty_racers_uses_a_recovery_code(database: TestDatabase) {
    let (server, app, _) = with_app(database, &UNLIMITED).await;
    let (_running, other) = server.replica_ahead(0, &settings(&UNLIMITED)).await;
    let mut racers = JoinSet::new();
    for _ in 0..10 {
        let needed = challenge(&server, "ann").await;
        for number in 0..5 {
            let mut client = if number % 2 == 0 { server.auth() } else { other.clone() };
            let (needed, code) = (needed.clone(), app.recovery_codes[3].clone());
            let code = if number % 3 == 0 { code } else { code.to_lowercase() };
            racers.spawn(async move { complete(&mut client, &needed, recovery(&code)).await });
        }
    }
    assert_eq!(one_wins(racers).await, 1);
    assert_eq!(count(server.database.db(), "recovery_codes").await, 9);
    let needed = challenge(&server, "ann").await;
    let completed = complete(&mut server.auth(), &needed, recovery(&app.recovery_codes[4])).await;
    completed.expect("another code");
}

#[on_both_backends]
async fn one_of_fifty_racers_uses_a_code_of_the_app(database: TestDatabase) {
    let (server, app, _) = with_app(database, &UNLIMITED).await;
    let (_running, other) = server.replica_ahead(0, &settings(&UNLIMITED)).await;
    let code = app.code(&server);
    let mut racers = JoinSet::new();
    for _ in 0..10 {
        let needed = challenge(&server, "ann").await;
        for number in 0..5 {
            let mut client = if number % 2 == 0 { server.auth() } else { other.clone() };
            let (needed, code) = (needed.clone(), code.clone());
            racers.spawn(async move { complete(&mut client, &needed, totp(&code)).await });
        }
    }
    assert_eq!(one_wins(racers).await, 1);
}

/// Returns the number of racers who were logged in. All others must be refused.
async fn one_wins(racers: JoinSet<Result<CompleteLoginResponse, Status>>) -> usize {
    let (won, lost): (Vec<_>, Vec<_>) = racers.join_all().await.into_iter().partition(Result::is_ok);
    for refused in lost {
        let refused = refusal(refused);
        let expected = [
            is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"),
            is(Code::Unauthenticated, "LOGIN_CHALLENGE_INVALID"),
        ];
        assert!(expected.contains(&refused), "{refused:?}");
    }
    won.len()
}

#[on_both_backends]
async fn a_challenge_ends_with_its_time_or_a_change_of_the_account(database: TestDatabase) {
    let (server, app, ann) = with_app(database, &[]).await;
    let late = challenge(&server, "ann").await;
    server.clock.advance(Duration::from_secs(15 * 60 + 30));
    let refused = complete(&mut server.auth(), &late, totp(&app.code(&server))).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "LOGIN_CHALLENGE_INVALID"));
    let needed = challenge(&server, "ann").await;
    let changed = with_token(change(PASSWORD, NEW), &ann.token);
    server.account().change_password(changed).await.expect("changed");
    let refused = complete(&mut server.auth(), &needed, totp(&app.code(&server))).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "LOGIN_CHALLENGE_INVALID"));
    let admin = server.superuser().await;
    let login = server
        .auth()
        .login(credentials("ann", NEW))
        .await
        .expect("the password is right");
    let needed = login.into_inner().challenge.expect("a challenge");
    deactivate(&server, &admin, &ann.user_id).await.expect("deactivated");
    let refused = complete(&mut server.auth(), &needed, totp(&app.code(&server))).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "LOGIN_CHALLENGE_INVALID"));
    for forged in [
        "",
        "c1.x.y",
        &needed.challenge_token[..needed.challenge_token.len() - 1],
    ] {
        let mut forged_challenge = needed.clone();
        forged_challenge.challenge_token = forged.to_owned();
        let refused = complete(&mut server.auth(), &forged_challenge, totp("123456")).await;
        assert!(refused.is_err(), "{forged}");
    }
}

#[on_both_backends]
async fn a_device_token_does_not_replace_the_second_factor(database: TestDatabase) {
    let (server, app, _) = with_app(database, &[]).await;
    let needed = challenge(&server, "ann").await;
    let completed = complete(&mut server.auth(), &needed, totp(&app.code(&server)))
        .await
        .expect("logged in");
    let again = LoginRequest {
        device_token: completed.device_token.clone(),
        ..credentials("ann", PASSWORD)
    };
    let answer = server
        .auth()
        .login(again)
        .await
        .expect("the password is right")
        .into_inner();
    assert!(answer.tokens.is_none());
    next_step(&server);
    let needed = answer.challenge.expect("a challenge");
    let completed_again = complete(&mut server.auth(), &needed, totp(&app.code(&server))).await;
    // The session replaces that of the same device.
    assert_eq!(completed_again.expect("logged in").device_token, completed.device_token);
}

#[on_both_backends]
async fn an_administrator_forgets_wrong_codes(database: TestDatabase) {
    let arguments = ["--login-rate-per-minute", "0", "--login-free-attempts", "2"];
    let (server, app, ann) = with_app(database, &arguments).await;
    let admin = server.superuser().await;
    let needed = challenge(&server, "ann").await;
    for _ in 0..2 {
        let refused = complete(&mut server.auth(), &needed, totp(&app.wrong_code(&server))).await;
        assert_eq!(refusal(refused), is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"));
    }
    let refused = complete(&mut server.auth(), &needed, totp(&app.code(&server))).await;
    assert_eq!(refusal(refused), is(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS"));
    let unlock = UnlockUserRequest { user_id: ann.user_id };
    users(&server)
        .unlock_user(with_token(unlock, &admin))
        .await
        .expect("unlocked");
    complete(&mut server.auth(), &needed, totp(&app.code(&server)))
        .await
        .expect("logged in");
}
