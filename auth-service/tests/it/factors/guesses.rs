//! Guesses at the second factor by someone who knows the password.

use proto::auth::v1::{LoginRequest, reauthenticate_request::Proof};
use testing::{TestDatabase, on_both_backends};
use tonic::Code;

use super::{App, challenge, complete, next_step, reauthenticate, reauthentication, totp};
use crate::support::{
    PASSWORD, Server,
    callers::{is, refusal},
    count, credentials, settings,
};

#[on_both_backends]
async fn guesses_are_counted_whatever_the_password_and_not_on_a_known_device(database: TestDatabase) {
    let arguments = settings(&["--login-rate-per-minute", "0"]);
    let server = Server::start_with(database, &arguments).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let app = App::added(&server, &token).await;
    next_step(&server);
    let own = challenge(&server, "ann").await;
    let own = complete(&mut server.auth(), &own, totp(&app.code(&server)))
        .await
        .expect("logged in");
    next_step(&server);
    let (_running, mut other) = server.replica_ahead(0, &arguments).await;
    let mut counted = 0;
    for number in 0..30 {
        // The right password, again and again, does not clear the count.
        let needed = challenge(&server, "ann").await;
        let wrong = totp(&app.wrong_code(&server));
        let refused = if number % 2 == 0 {
            complete(&mut server.auth(), &needed, wrong).await
        } else {
            complete(&mut other, &needed, wrong).await
        };
        let refused = refusal(refused);
        if refused == is(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS") {
            break;
        }
        assert_eq!(refused, is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"));
        counted += 1;
    }
    assert_eq!(counted, 10);
    let needed = challenge(&server, "ann").await;
    let refused = complete(&mut server.auth(), &needed, totp(&app.code(&server))).await;
    assert_eq!(refusal(refused), is(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS"));
    // The user is not locked out who is signed in, or who logs in from a known device.
    reauthenticate(&server, &token, reauthentication(&app.code(&server)))
        .await
        .expect("proved");
    next_step(&server);
    let by_device = LoginRequest {
        device_token: own.device_token,
        ..credentials("ann", PASSWORD)
    };
    let answer = server
        .auth()
        .login(by_device)
        .await
        .expect("the password is right")
        .into_inner();
    let needed = answer.challenge.expect("a challenge");
    complete(&mut server.auth(), &needed, totp(&app.code(&server)))
        .await
        .expect("logged in");
}

#[on_both_backends]
async fn a_proof_of_the_second_factor_needs_one(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    for proof in [reauthentication("123456"), Proof::RecoveryCode("ABCD".to_owned())] {
        let refused = reauthenticate(&server, &token, proof).await;
        assert_eq!(refusal(refused), is(Code::FailedPrecondition, "NO_SECOND_FACTOR"));
    }
}

#[on_both_backends]
async fn guesses_of_someone_who_is_signed_in_are_counted(database: TestDatabase) {
    let arguments = ["--login-rate-per-minute", "0", "--login-free-attempts", "3"];
    let server = Server::start_with(database, &settings(&arguments)).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let app = App::added(&server, &token).await;
    next_step(&server);
    for _ in 0..3 {
        let refused = reauthenticate(&server, &token, reauthentication(&app.wrong_code(&server))).await;
        assert_eq!(refusal(refused), is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"));
    }
    let refused = reauthenticate(&server, &token, reauthentication(&app.code(&server))).await;
    assert_eq!(refusal(refused), is(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS"));
    let recorded = "audit_events WHERE action = 'session.reauthenticate' AND reason = 'SECOND_FACTOR_WRONG'";
    assert_eq!(count(server.database.db(), recorded).await, 3);
}
