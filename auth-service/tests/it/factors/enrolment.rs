//! Addition and removal of authenticator apps, by their users.

use std::time::Duration;

use proto::auth::v1::{
    DeleteSecondFactorRequest, ListSecondFactorsRequest, ListSecondFactorsResponse, RenewRecoveryCodesRequest,
    reauthenticate_request::Proof,
};
use testing::{TestDatabase, on_both_backends, rpc::with_token};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    App, challenge, complete, confirm, create, next_step, reauthenticate, reauthentication, recovery, totp, try_login,
};
use crate::{
    support::{
        Server,
        callers::{is, refusal},
        dump,
    },
    tokens::step_up::login_of,
    users::calls::{me, refresh},
};

async fn list(server: &Server, token: &str) -> ListSecondFactorsResponse {
    let request = with_token(ListSecondFactorsRequest {}, token);
    let listed = server.account().list_second_factors(request).await;
    listed.expect("listed").into_inner()
}

async fn delete(server: &Server, token: &str, factor_id: &str) -> Result<(), Status> {
    let request = DeleteSecondFactorRequest {
        factor_id: factor_id.to_owned(),
    };
    let deleted = server.account().delete_second_factor(with_token(request, token)).await;
    deleted.map(drop)
}

async fn renew(server: &Server, token: &str) -> Result<Vec<String>, Status> {
    let request = with_token(RenewRecoveryCodesRequest {}, token);
    let renewed = server.account().renew_recovery_codes(request).await?;
    Ok(renewed.into_inner().recovery_codes)
}

#[on_both_backends]
async fn a_factor_counts_once_a_code_has_confirmed_it(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let dropped = create(&server, &token).await.expect("made");
    let made = create(&server, &token).await.expect("made");
    let uri = format!("otpauth://totp/127.0.0.1:ann?secret={}&issuer=127.0.0.1", made.secret);
    assert_eq!(made.otpauth_uri, uri);
    let app = App::with_secret(&made.secret);
    let id = made.factor.expect("a factor").factor_id;
    assert_eq!(list(&server, &token).await, ListSecondFactorsResponse::default());
    assert!(try_login(&server, "ann").await.challenge.is_none());
    let wrong = confirm(&server, &token, &id, &app.wrong_code(&server)).await;
    assert_eq!(refusal(wrong), is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"));
    let dropped_id = dropped.factor.expect("a factor").factor_id;
    let code = App::with_secret(&dropped.secret).code(&server);
    let refused = confirm(&server, &token, &dropped_id, &code).await;
    assert_eq!(refusal(refused), is(Code::NotFound, "FACTOR_NOT_FOUND"));

    let codes = confirm(&server, &token, &id, &app.code(&server))
        .await
        .expect("confirmed");
    assert_eq!(codes.len(), 10);
    let listed = list(&server, &token).await;
    assert_eq!((listed.factors.len(), listed.recovery_codes_left), (1, 10));
    assert_eq!(listed.factors[0].display_name, "phone");
    let again = confirm(&server, &token, &id, &app.code(&server)).await;
    assert_eq!(refusal(again), is(Code::NotFound, "FACTOR_NOT_FOUND"));
    challenge(&server, "ann").await;
    // Neither the secret nor a recovery code is stored in a form that can be used.
    let stored = dump(&server.database).await;
    for secret in [&made.secret, &codes[0], &codes[0].replace('-', "")] {
        assert!(!stored.contains(secret.as_str()), "{secret}");
    }
}

#[on_both_backends]
async fn a_factor_that_is_not_confirmed_in_time_is_dropped(database: TestDatabase) {
    let server = Server::start(database).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let made = create(&server, &tokens.access_token).await.expect("made");
    let (app, id) = (App::with_secret(&made.secret), made.factor.expect("a factor").factor_id);
    server.clock.advance(Duration::from_secs(15 * 60 + 30));
    let password = Proof::Password(crate::support::PASSWORD.to_owned());
    let token = reauthenticate(&server, &tokens.access_token, password)
        .await
        .expect("proved");
    let late = confirm(&server, &token, &id, &app.code(&server)).await;
    assert_eq!(refusal(late), is(Code::NotFound, "FACTOR_NOT_FOUND"));
}

#[on_both_backends]
async fn factors_change_only_with_both_factors(database: TestDatabase) {
    let server = Server::start(database).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let token = tokens.access_token;
    let app = App::added(&server, &token).await;
    // The session began with the password alone.
    let needs_two = |status: Status| {
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.reason, "STEP_UP_REQUIRED");
        assert_eq!(info.metadata["acr_values"], "2");
    };
    needs_two(create(&server, &token).await.expect_err("refused"));
    needs_two(delete(&server, &token, &app.factor_id).await.expect_err("refused"));
    needs_two(renew(&server, &token).await.expect_err("refused"));

    next_step(&server);
    let strong = reauthenticate(&server, &token, reauthentication(&app.code(&server))).await;
    let strong = strong.expect("proved");
    let [_, methods, acr] = login_of(&strong);
    assert_eq!(methods, serde_json::json!(["pwd", "otp", "mfa"]));
    assert_eq!(acr, serde_json::json!("2"));
    let renewed = renew(&server, &strong).await.expect("renewed");
    assert_eq!(renewed.len(), 10);
    let old = challenge(&server, "ann").await;
    let refused = complete(&mut server.auth(), &old, recovery(&app.recovery_codes[0])).await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"));
    create(&server, &strong).await.expect("a second app");
}

#[on_both_backends]
async fn no_token_of_two_factors_outlives_the_factor(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.register("ann").await.tokens.expect("tokens");
    let app = App::added(&server, &first.access_token).await;
    next_step(&server);
    let session = complete(
        &mut server.auth(),
        &challenge(&server, "ann").await,
        totp(&app.code(&server)),
    )
    .await;
    let tokens = session.expect("logged in").tokens.expect("tokens");
    next_step(&server);
    let proof = reauthentication(&app.code(&server));
    let stepped_up = reauthenticate(&server, &tokens.access_token, proof)
        .await
        .expect("proved");
    delete(&server, &stepped_up, &app.factor_id).await.expect("removed");
    for token in [&stepped_up, &tokens.access_token, &first.access_token] {
        let refused = me(&server, token).await;
        assert_eq!(refusal(refused), is(Code::Unauthenticated, "TOKEN_STALE"));
    }
    // The sessions go on, with one factor.
    for refresh_token in [&tokens.refresh_token, &first.refresh_token] {
        let refreshed = refresh(&server, refresh_token).await.expect("refreshed");
        let [_, methods, acr] = login_of(&refreshed);
        assert_eq!((methods, acr), (serde_json::json!(["pwd"]), serde_json::json!("1")));
    }
    assert!(try_login(&server, "ann").await.tokens.is_some());
    let refreshed = refresh(&server, &tokens.refresh_token).await.expect("refreshed");
    assert_eq!(list(&server, &refreshed).await, ListSecondFactorsResponse::default());
}
