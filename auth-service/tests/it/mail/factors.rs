//! Mails about second factors, and resets of passwords of users who have one.

use proto::auth::v1::ResetPasswordRequest;
use testing::{TestDatabase, on_both_backends, rpc::bad_fields};
use tonic::Code;

use super::{MailServer, NEW};
use crate::{
    factors::{App, complete, next_step, required::begin, totp, try_login},
    support::{
        PASSWORD,
        callers::{is, refusal},
        credentials,
    },
    users::calls::me,
};

#[on_both_backends]
async fn a_stolen_password_adds_no_factor_without_the_mailed_code(database: TestDatabase) {
    let mails = MailServer::start_with(database, &["--require-second-factor", "player"]).await;
    let server = &mails.server;
    mails.register_verified("ann").await;
    let needed = try_login(server, "ann").await.challenge.expect("a challenge");
    assert!(needed.enrol && needed.email_code_required);
    let missing = begin(server, &needed, "").await.err().expect("refused");
    assert_eq!(bad_fields(&missing), ["email_code"]);
    let wrong = begin(server, &needed, "2222-2222").await.map(drop);
    assert_eq!(refusal(wrong), is(Code::Unauthenticated, "CODE_INVALID"));
    let refused = complete(&mut server.auth(), &needed, totp("123456")).await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"));
    let [mail] = mails.mails(1).await.try_into().expect("one mail");
    assert!(
        mail.text.contains("The account needs a second factor."),
        "{}",
        mail.text
    );
    let app = begin(server, &needed, &mail.code()).await.expect("begun");
    complete(&mut server.auth(), &needed, totp(&app.code(server)))
        .await
        .expect("logged in");
    let notices = mails.mails(3).await;
    let added = notices
        .iter()
        .filter(|mail| mail.text.contains("An authenticator app was added"));
    assert_eq!(added.count(), 1, "{notices:?}");
}

#[on_both_backends]
async fn a_reset_of_the_password_does_not_replace_the_second_factor(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    let app = App::added(server, &token).await;
    next_step(server);
    let mail = mails.request("ann", 1).await;
    let reset = ResetPasswordRequest {
        identifier: "ann".to_owned(),
        code: mail.code(),
        new_password: NEW.to_owned(),
        new_password_confirmation: NEW.to_owned(),
        ..ResetPasswordRequest::default()
    };
    let answer = server.auth().reset_password(reset).await.expect("reset").into_inner();
    assert!(answer.tokens.is_none() && answer.user.is_none() && answer.device_token.is_empty());
    // The password is a new one all the same, and the old one and the sessions are gone.
    let old = server.auth().login(credentials("ann", PASSWORD)).await;
    assert_eq!(refusal(old), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    assert_eq!(refusal(me(server, &token).await).0, Code::Unauthenticated);
    let needed = answer.challenge.expect("a challenge");
    complete(&mut server.auth(), &needed, totp(&app.code(server)))
        .await
        .expect("logged in");
}
