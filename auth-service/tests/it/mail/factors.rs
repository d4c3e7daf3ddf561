//! Second factors and mail: codes for an enrolment, notices, and ways by mail round a factor.

use std::time::Duration;

use proto::auth::v1::{ChangeEmailRequest, ConfirmEmailChangeRequest};
use testing::{TestDatabase, on_both_backends, rpc::bad_fields};
use tonic::Code;

use super::{
    Mail, MailServer, NEW,
    change::{OLD, THIEF, move_to, revert},
    change_email, confirm, login, reset,
};
use crate::{
    factors::{App, REQUIRED, challenge, complete, make_guard, next_step, required::begin, resets, totp},
    support::{
        PASSWORD,
        callers::{is, refusal},
        count, credentials,
    },
    users::calls::me,
};

/// Returns the text of a mail without its line breaks.
fn words(mail: &Mail) -> String {
    mail.text.replace("\r\n", " ")
}

/// Starts a server with the verified user `ann`, who must have a second factor.
async fn with_guard(database: TestDatabase, further: &[&str]) -> MailServer {
    let mails = MailServer::start_with(database, &[&REQUIRED[..], further].concat()).await;
    let token = mails.register_verified("ann").await;
    let ann = me(&mails.server, &token).await.expect("me").user_id;
    make_guard(&mails.server, &ann).await;
    mails
}

#[on_both_backends]
async fn a_stolen_password_adds_no_factor_without_the_mailed_code(database: TestDatabase) {
    let mails = with_guard(database, &[]).await;
    let server = &mails.server;
    let needed = challenge(server, "ann").await;
    assert!(needed.enrol && needed.email_code_required);
    let missing = begin(server, &needed, "").await.err().expect("refused");
    assert_eq!(bad_fields(&missing), ["email_code"]);
    let wrong = begin(server, &needed, "2222-2222").await.map(drop);
    assert_eq!(refusal(wrong), is(Code::Unauthenticated, "CODE_INVALID"));
    let refused = complete(&mut server.auth(), &needed, totp("123456")).await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "SECOND_FACTOR_WRONG"));
    let mail = mails.to("ann", 1).await.remove(0);
    assert!(words(&mail).contains("needs a second factor."), "{}", mail.text);
    assert!(!mail.text.contains("http"), "{}", mail.text);
    let app = begin(server, &needed, &mail.code()).await.expect("begun");
    // The code is for one enrolment, and another login needs another one.
    let other = challenge(server, "ann").await;
    let used = begin(server, &other, &mail.code()).await.map(drop);
    assert_eq!(refusal(used), is(Code::Unauthenticated, "CODE_INVALID"));
    complete(&mut server.auth(), &needed, totp(&app.code(server)))
        .await
        .expect("logged in");
    // Two codes, a new device, and the new factor.
    let notices = mails.to("ann", 4).await;
    let is_notice = |mail: &&Mail| words(mail).contains("An authenticator app was added");
    assert_eq!(notices.iter().filter(is_notice).count(), 1, "{notices:?}");
}

#[on_both_backends]
async fn an_address_gets_a_few_codes_an_hour_and_the_last_one_goes_on_working(database: TestDatabase) {
    let mails = with_guard(database, &["--login-rate-per-minute", "0"]).await;
    let server = &mails.server;
    let mut needed = challenge(server, "ann").await;
    for _ in 0..5 {
        needed = challenge(server, "ann").await;
        assert!(needed.email_code_required);
    }
    // One mail has verified the address.
    let mail = mails.to("ann", 3).await.remove(0);
    begin(server, &needed, &mail.code()).await.expect("begun");
    // The code is used up, and the limit is reached. The password is right all the same.
    for _ in 0..12 {
        let refused = server.auth().login(credentials("ann", PASSWORD)).await;
        assert_eq!(refusal(refused), is(Code::ResourceExhausted, "TOO_MANY_MAILS"));
    }
    server.clock.advance(Duration::from_secs(3601));
    challenge(server, "ann").await;
}

#[on_both_backends]
async fn a_stolen_password_alone_changes_no_address(database: TestDatabase) {
    let mails = with_guard(database, &[]).await;
    let server = &mails.server;
    let ask = ChangeEmailRequest {
        email: THIEF.to_owned(),
        current_password: PASSWORD.to_owned(),
        identifier: "ann".to_owned(),
    };
    // The user must have a factor, and has none yet.
    let refused = server.account().change_email(ask.clone()).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
    let needed = challenge(server, "ann").await;
    let mail = mails.to("ann", 1).await.remove(0);
    let app = begin(server, &needed, &mail.code()).await.expect("begun");
    let completed = complete(&mut server.auth(), &needed, totp(&app.code(server))).await;
    let token = completed.expect("logged in").tokens.expect("tokens").access_token;
    let refused = server.account().change_email(ask).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
    // Nor does it confirm a change that the user has asked for.
    change_email(server, &token, "new@example.test", PASSWORD)
        .await
        .expect("asked");
    let mail = mails.about_email("new@example.test", 1).await;
    let confirmation = ConfirmEmailChangeRequest {
        code: mail.code(),
        identifier: "ann".to_owned(),
        password: PASSWORD.to_owned(),
    };
    let refused = server.account().confirm_email_change(confirmation).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
    confirm(server, &token, &mail.code()).await.expect("confirmed");
}

#[on_both_backends]
async fn a_reset_of_the_password_does_not_replace_the_second_factor(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    let app = App::added(server, &token).await;
    next_step(server);
    let mail = mails.request("ann", 1).await;
    let answer = reset(&mut server.auth(), "ann", &mail.code(), NEW)
        .await
        .expect("reset");
    assert!(answer.tokens.is_none() && answer.user.is_none() && answer.device_token.is_empty());
    // The password is a new one all the same, and the old one and the sessions are gone.
    let old = server.auth().login(credentials("ann", PASSWORD)).await;
    assert_eq!(refusal(old), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    assert_eq!(refusal(me(server, &token).await).0, Code::Unauthenticated);
    assert_eq!(
        count(server.database.db(), "sessions WHERE end_time IS NULL").await,
        0,
        "no session without the factor"
    );
    let needed = answer.challenge.expect("a challenge");
    complete(&mut server.auth(), &needed, totp(&app.code(server)))
        .await
        .expect("logged in");
}

#[on_both_backends]
async fn a_factor_of_someone_who_registered_a_foreign_address_goes_at_its_first_proof(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    // The attacker registers with the victim's address, and adds an app.
    let attacker = server.register("victim").await.tokens.expect("tokens");
    App::added(server, &attacker.access_token).await;
    let mail = mails.request("victim@example.test", 1).await;
    let answer = reset(&mut server.auth(), "victim@example.test", &mail.code(), NEW).await;
    let own = answer.expect("reset").tokens.expect("tokens");
    for table in ["totp_factors", "recovery_codes"] {
        assert_eq!(count(server.database.db(), table).await, 0, "{table}");
    }
    login(server, "victim", NEW)
        .await
        .expect("logged in")
        .tokens
        .expect("tokens");
    let removed = |mail: &Mail| words(mail).contains("A second factor was removed");
    mails.wait(1, removed).await;

    // The address is proved from now on, so a reset leaves the owner's app.
    next_step(server);
    App::added(server, &own.access_token).await;
    let is_code = |mail: &Mail| mail.text.contains("#reset-password?");
    mails.wait(1, is_code).await;
    super::request_reset(&mut server.auth(), "victim").await.expect("asked");
    let codes = mails.wait(2, is_code).await;
    let newest = codes
        .iter()
        .find(|code| code.code() != mail.code())
        .expect("another code");
    let answer = reset(&mut server.auth(), "victim", &newest.code(), PASSWORD)
        .await
        .expect("reset");
    assert!(answer.tokens.is_none() && answer.challenge.is_some());
}

#[on_both_backends]
async fn a_thief_who_has_added_a_factor_does_not_keep_the_owner_out(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    mails.register_verified("ann").await;
    let stolen = login(server, "ann", PASSWORD).await.expect("logged in");
    let thief = stolen.tokens.expect("tokens").access_token;
    server.clock.advance(Duration::from_secs(60));
    move_to(&mails, &thief, THIEF, PASSWORD, 0).await;
    let notice = mails.about_email(OLD, 2).await;
    App::added(server, &thief).await;
    assert!(challenge(server, "ann").await.challenge_token.starts_with("c1."));
    revert(server, &notice).await.expect("undone");
    for table in ["totp_factors", "recovery_codes"] {
        assert_eq!(count(server.database.db(), table).await, 0, "{table}");
    }
    let mail = mails.with_link(OLD, "reset-password", 1).await;
    let answer = reset(&mut server.auth(), OLD, &mail.code(), NEW).await.expect("reset");
    assert!(answer.tokens.is_some());
}

#[on_both_backends]
async fn a_factor_from_before_the_change_of_an_address_stays(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    App::added(server, &token).await;
    server.clock.advance(Duration::from_secs(60));
    move_to(&mails, &token, THIEF, PASSWORD, 0).await;
    let notice = mails.about_email(OLD, 2).await;
    revert(server, &notice).await.expect("undone");
    let mail = mails.with_link(OLD, "reset-password", 1).await;
    let answer = reset(&mut server.auth(), OLD, &mail.code(), NEW).await.expect("reset");
    assert!(answer.tokens.is_none() && answer.challenge.is_some());
}

#[on_both_backends]
async fn the_user_hears_of_a_reset_by_an_administrator(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    let ann = me(server, &token).await.expect("me").user_id;
    App::added(server, &token).await;
    let admin = server.superuser().await;
    resets::reset(server, &admin, &ann).await.expect("reset");
    let removed =
        |mail: &Mail| mail.recipient() == OLD && words(mail).contains("removed all second factors of your account");
    let mail = mails.wait(1, removed).await.remove(0);
    assert!(!words(&mail).contains("IP address"), "{}", mail.text);
}
