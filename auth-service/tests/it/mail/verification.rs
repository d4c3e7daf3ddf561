//! Users prove that they receive mail at their address.

use std::time::Duration;

use diesel_async::RunQueryDsl as _;
use proto::auth::v1::{RegisterRequest, RequestEmailVerificationRequest, User, VerifyEmailRequest};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, with_token},
};
use tonic::{Code, Status};

use super::{Mail, MailServer, NEW, becomes_true, change_email, login, reset, settings_of, verify};
use crate::{
    grpc::stale_tokens::waits,
    guests::{guest, upgrade, upgrade_to},
    support::{
        PASSWORD, START, Server,
        callers::{is, refusal},
        count, credentials, execute, registration, with_password,
    },
    users::calls::{assert_refused, me},
};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// Address with which two users register, and its key.
const SHARED: &str = "Ann@example.test";
const SHARED_KEY: &str = "ann@example.test";

/// Verifies an address with a password instead of an access token.
async fn verify_by(server: &Server, identifier: &str, password: &str, code: &str) -> Result<User, Status> {
    let request = VerifyEmailRequest {
        code: code.to_owned(),
        identifier: identifier.to_owned(),
        password: password.to_owned(),
    };
    let verified = server.account().verify_email(request).await?;
    Ok(verified.into_inner().user.expect("a user"))
}

async fn request_by(server: &Server, identifier: &str, password: &str) -> Result<(), Status> {
    let request = RequestEmailVerificationRequest {
        identifier: identifier.to_owned(),
        password: password.to_owned(),
    };
    server.account().request_email_verification(request).await.map(|_| ())
}

async fn request(server: &Server, token: &str) -> Result<(), Status> {
    let request = RequestEmailVerificationRequest::default();
    let request = with_token(request, token);
    server.account().request_email_verification(request).await.map(|_| ())
}

#[on_both_backends]
async fn a_registered_user_gets_a_code_and_verifies_the_address(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let mail = mails.about_email("ann@example.test", 1).await;
    assert!(mail.text.contains("valid for 24 hours."), "{}", mail.text);
    let (action, values) = mail.link();
    assert_eq!(
        (action.as_str(), values["identifier"].as_str()),
        ("verify-email", "ann@example.test")
    );
    assert_eq!(me(server, &token).await.expect("me").email_verify_time, None);
    let user = verify(server, &token, &mail.code()).await.expect("verified");
    assert!(user.email_verify_time.is_some());
    assert_eq!(me(server, &token).await.expect("me"), user);
    for code in [&mail.code(), &values["code"]] {
        let again = verify(server, &token, code).await;
        assert_eq!(refusal(again), is(Code::PermissionDenied, "EMAIL_CODE_INVALID"));
    }
    // There is nothing left to verify, so no mail follows.
    request(server, &token).await.expect("nothing to do");
    server.register("bob").await;
    mails.about_email("bob@example.test", 1).await;
    mails.about_email("ann@example.test", 1).await;
}

#[on_both_backends]
async fn a_code_alone_verifies_nothing(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    server.register("ann").await;
    let bob = server.register("bob").await.tokens.expect("tokens").access_token;
    let mail = mails.about_email("ann@example.test", 1).await;
    let code = mail.link().1["code"].clone();
    let anonymous = VerifyEmailRequest {
        code: code.clone(),
        ..VerifyEmailRequest::default()
    };
    let refused = server.account().verify_email(anonymous).await;
    assert_eq!(bad_fields(&refused.expect_err("refused")), ["identifier", "password"]);
    let refused = server.account().verify_email(VerifyEmailRequest::default()).await;
    assert_eq!(
        bad_fields(&refused.expect_err("refused")),
        ["identifier", "password", "code"]
    );
    for code in [&code, &mail.code()] {
        let refused = verify(server, &bob, code).await;
        assert_eq!(refusal(refused), is(Code::PermissionDenied, "EMAIL_CODE_INVALID"));
    }
    for (identifier, password) in [("ann", "wrong horse"), ("nobody", PASSWORD)] {
        let refused = verify_by(server, identifier, password, &code).await;
        assert_eq!(refusal(refused), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    }
    verify_by(server, "ANN@example.test", PASSWORD, &code)
        .await
        .expect("verified");
}

#[on_both_backends]
async fn guesses_at_a_password_are_limited_as_at_a_login(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    server.register("ann").await;
    for _ in 0..15 {
        request_by(server, "ann", "wrong horse").await.expect_err("refused");
        verify_by(server, "ann", "wrong horse", "ABCD-EFGH")
            .await
            .expect_err("refused");
    }
    for refused in [
        login(server, "ann", PASSWORD).await.map(|_| ()),
        request_by(server, "ann", PASSWORD).await,
    ] {
        assert_eq!(refusal(refused), is(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS"));
    }
}

#[on_both_backends]
async fn a_link_works_after_five_wrong_codes_and_an_address_gets_three_mails_an_hour(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let mail = mails.about_email("ann@example.test", 1).await;
    for _ in 0..5 {
        verify(server, &token, "2222-2222").await.expect_err("refused");
    }
    let worn_out = verify(server, &token, &mail.code()).await;
    assert_eq!(refusal(worn_out), is(Code::PermissionDenied, "EMAIL_CODE_INVALID"));
    for count in [2, 3] {
        request(server, &token).await.expect("asked");
        let again = mails.about_email("ann@example.test", count).await;
        assert_eq!(again.link(), mail.link());
    }
    let refused = request(server, &token).await;
    assert_eq!(refusal(refused), is(Code::ResourceExhausted, "TOO_MANY_MAILS"));
    // The owner of the address can still take the account over.
    mails.request("ann", 0).await;
    verify(server, &token, &mail.link().1["code"]).await.expect("verified");
}

#[on_both_backends]
async fn a_code_expires_after_a_day(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    server.register("ann").await;
    let mail = mails.about_email("ann@example.test", 1).await;
    server.clock.advance(DAY + Duration::from_secs(1));
    for code in [&mail.code(), &mail.link().1["code"]] {
        let late = verify_by(server, "ann", PASSWORD, code).await;
        assert_eq!(refusal(late), is(Code::PermissionDenied, "EMAIL_CODE_INVALID"));
    }
    request_by(server, "ann", PASSWORD).await.expect("asked");
    let fresh = mails.about_email("ann@example.test", 2).await;
    assert_ne!(fresh.code(), mail.code());
    verify_by(server, "ann", PASSWORD, &fresh.code())
        .await
        .expect("verified");
}

#[on_both_backends]
async fn a_code_is_used_by_exactly_one_of_twenty_callers(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let code = mails.about_email("ann@example.test", 1).await.link().1["code"].clone();
    let racers: Vec<_> = (0..20)
        .map(|_| {
            let (mut client, token, code) = (server.account(), token.clone(), code.clone());
            tokio::spawn(async move {
                let request = VerifyEmailRequest {
                    code,
                    ..VerifyEmailRequest::default()
                };
                client.verify_email(with_token(request, &token)).await
            })
        })
        .collect();
    let mut winners = 0;
    for racer in racers {
        match racer.await.expect("joined") {
            Ok(_) => winners += 1,
            refused => assert_eq!(refusal(refused), is(Code::PermissionDenied, "EMAIL_CODE_INVALID")),
        }
    }
    assert_eq!(winners, 1);
}

#[on_both_backends]
async fn where_it_is_required_users_verify_before_they_log_in(database: TestDatabase) {
    let mails = MailServer::start_with(database, &["--require-verified-email"]).await;
    let server = &mails.server;
    let registered = server.register("ann").await;
    assert_eq!((registered.tokens, registered.device_token.as_str()), (None, ""));
    assert_eq!(registered.user.expect("a user").login, "ann");
    let refused = login(server, "ann", PASSWORD).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED"));
    // A caller without the password learns nothing.
    for (identifier, password) in [("ann", "wrong horse"), ("nobody", PASSWORD)] {
        let refused = login(server, identifier, password).await;
        assert_eq!(refusal(refused), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    }
    // A right password is not counted as a failure.
    for _ in 0..20 {
        login(server, "ann", PASSWORD).await.expect_err("refused");
    }
    let mail = mails.about_email("ann@example.test", 1).await;
    verify_by(server, "ann", PASSWORD, &mail.code())
        .await
        .expect("verified");
    let answer = login(server, "ann", PASSWORD).await.expect("logged in");
    assert!(answer.user.expect("a user").email_verify_time.is_some());
    // A reset proves the address as well.
    server.register("bob").await;
    let mail = mails.request("bob", 0).await;
    reset(&mut server.auth(), "bob", &mail.code(), NEW)
        .await
        .expect("reset");
    login(server, "bob", NEW).await.expect("logged in");
}

#[on_both_backends]
async fn an_address_that_nobody_has_verified_goes_to_the_first_who_does(database: TestDatabase) {
    let mails = MailServer::start_with(database, &["--require-verified-email"]).await;
    let server = &mails.server;
    let with_address = |login: &str| RegisterRequest {
        email: "Ann@example.test".to_owned(),
        ..registration(login)
    };
    server.auth().register(with_address("eve")).await.expect("registered");
    let old = mails.about_email("Ann@example.test", 1).await;
    server.clock.advance(23 * HOUR);
    server.clock.settle();
    let early = server.auth().register(with_address("ann")).await;
    assert_eq!(refusal(early), is(Code::AlreadyExists, "USER_ALREADY_EXISTS"));
    server.clock.advance(2 * HOUR);
    server.clock.settle();
    server.auth().register(with_address("ann")).await.expect("registered");
    // Until then the address is Eve's.
    let mail = mails.about_email("Ann@example.test", 2).await;
    assert_eq!(mail.link().1["identifier"], "ann");
    let crossed = verify_by(server, "ann@example.test", PASSWORD, &mail.code()).await;
    assert_eq!(refusal(crossed), is(Code::PermissionDenied, "EMAIL_CODE_INVALID"));
    let user = verify_by(server, "ann", PASSWORD, &mail.code())
        .await
        .expect("verified");
    assert!(user.email_verify_time.is_some());
    let answer = login(server, "ann@example.test", PASSWORD).await.expect("logged in");
    assert_eq!(answer.user.expect("a user").login, "ann");
    // Eve has lost it for good, and nobody takes it from Ann.
    let codes = "account_codes JOIN users ON users.id = user_id WHERE users.login = 'eve'";
    assert_eq!(count(server.database.db(), codes).await, 0);
    for code in [&old.code(), &old.link().1["code"]] {
        verify_by(server, "eve", PASSWORD, code).await.expect_err("refused");
    }
    let refused = login(server, "eve", PASSWORD).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED"));
    server.clock.advance(3 * DAY);
    server.clock.settle();
    let taken = server.auth().register(with_address("zoe")).await;
    assert_eq!(refusal(taken), is(Code::AlreadyExists, "USER_ALREADY_EXISTS"));
}

/// Registers `eve` and, more than a day later, `ann` with the same address, which is still Eve's.
/// Returns the mails of both.
async fn register_two_with_one_address(mails: &MailServer) -> [Mail; 2] {
    let server = &mails.server;
    let with_address = |login: &str| RegisterRequest {
        email: SHARED.to_owned(),
        ..registration(login)
    };
    server.auth().register(with_address("eve")).await.expect("registered");
    let to_eve = mails.about_email(SHARED, 1).await;
    server.clock.advance(25 * HOUR);
    server.clock.settle();
    server.auth().register(with_address("ann")).await.expect("registered");
    let to_ann = mails.about_email(SHARED, 2).await;
    assert_eq!(to_ann.link().1["identifier"], "ann");
    [to_eve, to_ann]
}

#[on_both_backends]
async fn a_reset_takes_an_address_over_as_a_verification_does(database: TestDatabase) {
    let mails = MailServer::start_with(database, &["--require-verified-email"]).await;
    let server = &mails.server;
    register_two_with_one_address(&mails).await;
    let mail = mails.request("ann", 0).await;
    assert_eq!(mail.link().1["identifier"], "ann");
    let answer = reset(&mut server.auth(), "ann", &mail.code(), NEW)
        .await
        .expect("reset");
    let user = answer.user.expect("a user");
    assert!(user.email_verify_time.is_some());
    assert_eq!(
        me(server, &answer.tokens.expect("tokens").access_token)
            .await
            .expect("me"),
        user
    );
    let answer = login(server, SHARED, NEW).await.expect("logged in");
    assert_eq!(answer.user.expect("a user").login, "ann");
    // Eve has lost it.
    let lost = "audit_events WHERE action = 'user.lose_email'";
    assert_eq!(count(server.database.db(), lost).await, 1);
    let refused = login(server, "eve", PASSWORD).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED"));
    assert_eq!(count(server.database.db(), "users WHERE email_is_taken").await, 1);
}

#[on_both_backends]
async fn a_reset_takes_no_address_from_a_user_who_has_verified_it(database: TestDatabase) {
    let mails = MailServer::start_with(database, &["--require-verified-email"]).await;
    let server = &mails.server;
    register_two_with_one_address(&mails).await;
    let mail = mails.request("eve", 0).await;
    assert_eq!(mail.link().1["identifier"], SHARED);
    reset(&mut server.auth(), SHARED, &mail.code(), NEW)
        .await
        .expect("reset");
    // Ann receives mail there as well, so she gets a password, but not the address.
    let mail = mails.request("ann", 2).await;
    let answer = reset(&mut server.auth(), "ann", &mail.code(), "third horse")
        .await
        .expect("reset");
    assert_eq!(answer.user.expect("a user").email_verify_time, None);
    let answer = login(server, SHARED, NEW).await.expect("logged in");
    assert_eq!(answer.user.expect("a user").login, "eve");
    let refused = login(server, "ann", "third horse").await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED"));
    // Eve was told about her new password and her login, and nobody about Ann's.
    assert_eq!(mails.answered("marker", 4).await.len(), 4);
}

#[on_both_backends]
async fn no_user_loses_an_address_while_the_clock_is_not_trusted(database: TestDatabase) {
    let mails = MailServer::start_with(database, &["--require-verified-email"]).await;
    let server = &mails.server;
    let with_address = |login: &str| RegisterRequest {
        email: SHARED.to_owned(),
        ..registration(login)
    };
    server.auth().register(with_address("eve")).await.expect("registered");
    server.clock.set(START.plus(2 * DAY));
    let early = server.auth().register(with_address("ann")).await;
    assert_eq!(refusal(early), is(Code::AlreadyExists, "USER_ALREADY_EXISTS"));
    // The clock is trusted again 15 minutes after its jump.
    server.clock.advance(Duration::from_mins(15));
    server.auth().register(with_address("ann")).await.expect("registered");
}

#[on_both_backends]
async fn a_holder_who_came_after_the_look_up_keeps_the_address_for_now(database: TestDatabase) {
    let mails = MailServer::start_with(database, &["--require-verified-email"]).await;
    let server = &mails.server;
    // Users are locked in the order of their ids, and these come in this order.
    server.register("first").await;
    let [_, mail] = register_two_with_one_address(&mails).await;
    server.register("last").await;
    let give = |login: &str, email: &str, key: &str| {
        format!("UPDATE users SET email = '{email}', email_folded = '{key}' WHERE login = '{login}'")
    };
    execute(server, &give("eve", "eve@example.test", "eve@example.test")).await;
    execute(server, &give("last", SHARED, SHARED_KEY)).await;
    let mut other = server.database.db().begin().await.expect("a transaction");
    // On PostgreSQL, Ann's call looks the holder up before it waits for her row.
    let (mut account, code) = (server.account(), mail.code());
    run_in(&mut other, "UPDATE users SET middle_name = '' WHERE login = 'ann'").await;
    let call = tokio::spawn(async move {
        let request = VerifyEmailRequest {
            code,
            identifier: "ann".to_owned(),
            password: PASSWORD.to_owned(),
        };
        account.verify_email(request).await
    });
    waits(&server.database, &call).await;
    run_in(&mut other, &give("last", "last@example.test", "last@example.test")).await;
    run_in(&mut other, &give("first", SHARED, SHARED_KEY)).await;
    other.commit().await.expect("committed");
    let answer = call.await.expect("joined");
    if server.database.backend() == db::Backend::Postgres {
        assert_eq!(refusal(answer), is(Code::AlreadyExists, "USER_ALREADY_EXISTS"));
        // The code is not used up.
        verify_by(server, "ann", PASSWORD, &mail.code())
            .await
            .expect("verified");
    } else {
        // There is one writer, so the whole call came later.
        answer.expect("verified");
    }
    let lost = "audit_events JOIN users ON users.id = subject_user_id WHERE action = 'user.lose_email' \
        AND login = 'first'";
    assert_eq!(count(server.database.db(), lost).await, 1);
}

async fn run_in(transaction: &mut db::Transaction, sql: &str) {
    let done: db::Result<usize> = db::query!(transaction.conn(), |c| diesel::sql_query(sql).execute(c).await);
    assert_eq!(done.expect(sql), 1, "{sql}");
}

#[on_both_backends]
async fn a_mailed_link_works_after_a_change_of_the_login(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let ann = server.register("ann").await;
    let (token, user_id) = (
        ann.tokens.expect("tokens").access_token,
        ann.user.expect("a user").user_id,
    );
    let to_verify = mails.about_email("ann@example.test", 1).await.link().1;
    let to_reset = mails.request("ann", 0).await.link().1;
    change_email(server, &token, "new@example.test", PASSWORD)
        .await
        .expect("asked");
    let to_confirm = mails.about_email("new@example.test", 1).await.link().1;
    // The page compares this with the user who is logged in.
    assert_eq!(to_verify["user_id"], user_id);
    assert_eq!(to_confirm["user_id"], user_id);
    // The owner of the new address may be somebody else, and does not learn the present one.
    assert_eq!(to_confirm["identifier"], "ann");
    let rename = with_password(User {
        login: "anna".to_owned(),
        ..User::default()
    });
    let renamed = server.account().update_me(with_token(rename, &token)).await;
    renamed.expect("renamed");
    verify_by(server, &to_verify["identifier"], PASSWORD, &to_verify["code"])
        .await
        .expect("verified");
    let answer = reset(&mut server.auth(), &to_reset["identifier"], &to_reset["code"], NEW).await;
    assert_eq!(answer.expect("reset").user.expect("a user").login, "anna");
}

#[on_both_backends]
async fn the_rule_goes_on_while_a_replica_runs_without_it(database: TestDatabase) {
    let mails = MailServer::start_with(database, &["--require-verified-email"]).await;
    let server = &mails.server;
    let mut without = mails.arguments.clone();
    without.retain(|argument| argument != "--require-verified-email");
    server.clock.advance(HOUR);
    server.register("ann").await;
    // A replica without the rule lets users in, and the others do not.
    let (off, mut lenient) = server.replica_ahead(0, &settings_of(&without)).await;
    lenient.login(credentials("ann", PASSWORD)).await.expect("logged in");
    let refused = is(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED");
    assert_eq!(refusal(login(server, "ann", PASSWORD).await), refused);
    // Replicas with the rule that start beside it know since when it has been on.
    server.clock.advance(Duration::from_mins(50));
    let (on, mut strict) = server.replica_ahead(0, &settings_of(&mails.arguments)).await;
    assert_eq!(refusal(strict.login(credentials("ann", PASSWORD)).await), refused);
    for running in [off, on] {
        running.stop().await.expect("stopped");
    }
}

#[on_both_backends]
async fn the_rule_begins_anew_after_it_was_off_for_more_than_an_hour(database: TestDatabase) {
    let mails = MailServer::start_with(database, &["--require-verified-email"]).await;
    let server = &mails.server;
    server.clock.advance(HOUR);
    server.register("ann").await;
    mails.about_email("ann@example.test", 1).await;
    let mut without = mails.arguments.clone();
    without.retain(|argument| argument != "--require-verified-email");
    // It is off twice, for less than an hour each time.
    let refused = is(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED");
    for _ in 0..2 {
        let (off, _) = server.replica_ahead(0, &settings_of(&without)).await;
        off.stop().await.expect("stopped");
        server.clock.advance(Duration::from_mins(59));
        let (on, mut strict) = server.replica_ahead(0, &settings_of(&mails.arguments)).await;
        assert_eq!(refusal(strict.login(credentials("ann", PASSWORD)).await), refused);
        on.stop().await.expect("stopped");
    }
    // Then it is off for longer, so Ann is now a user from before, and reminded.
    let (off, _) = server.replica_ahead(0, &settings_of(&without)).await;
    off.stop().await.expect("stopped");
    server.clock.advance(Duration::from_mins(61));
    server.clock.settle();
    let (_on, mut strict) = server.replica_ahead(0, &settings_of(&mails.arguments)).await;
    strict.login(credentials("ann", PASSWORD)).await.expect("logged in");
    mails.about_email("ann@example.test", 2).await;
    server.clock.advance(31 * DAY);
    server.clock.settle();
    assert_eq!(refusal(strict.login(credentials("ann", PASSWORD)).await), refused);
}

#[on_both_backends]
async fn users_from_before_are_reminded_for_thirty_days_and_keep_their_address(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let before = &mails.server;
    before.register("ann").await;
    mails.about_email("ann@example.test", 1).await;
    before.clock.advance(HOUR);
    let mut arguments = mails.arguments.clone();
    arguments.push("--require-verified-email".to_owned());
    let server = before.replica_ahead(0, &settings_of(&arguments)).await.1;
    let login = async |login: &str| server.clone().login(credentials(login, PASSWORD)).await.map(|_| ());
    // Reminded at the first login, and a week later.
    for (days, mails_so_far) in [(0, 2), (2, 2), (5, 3), (1, 3)] {
        before.clock.advance(days * DAY);
        before.clock.settle();
        login("ann").await.expect("logged in");
        becomes_true(async || count(before.database.db(), "mail_outbox").await == 0).await;
        mails.about_email("ann@example.test", mails_so_far).await;
    }
    before.clock.advance(21 * DAY);
    before.clock.settle();
    login("ann").await.expect("logged in");
    before.clock.advance(2 * DAY);
    before.clock.settle();
    assert_eq!(
        refusal(login("ann").await),
        is(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED")
    );
    let other = RegisterRequest {
        email: "ann@example.test".to_owned(),
        ..registration("eve")
    };
    let taken = server.clone().register(other).await;
    assert_eq!(refusal(taken), is(Code::AlreadyExists, "USER_ALREADY_EXISTS"));
}

#[on_both_backends]
async fn bad_requests_name_every_bad_field(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let empty = server
        .account()
        .verify_email(with_token(VerifyEmailRequest::default(), &token))
        .await;
    assert_eq!(bad_fields(&empty.expect_err("refused")), ["code"]);
    let bad = VerifyEmailRequest {
        code: "ABC".to_owned(),
        identifier: "a\0b".to_owned(),
        password: String::new(),
    };
    let refused = server.account().verify_email(bad).await.expect_err("refused");
    assert_eq!(bad_fields(&refused), ["identifier", "password", "code"]);
    let bad = RequestEmailVerificationRequest {
        password: PASSWORD.to_owned(),
        ..RequestEmailVerificationRequest::default()
    };
    let refused = server.account().request_email_verification(bad).await;
    assert_eq!(bad_fields(&refused.expect_err("refused")), ["identifier"]);
}

#[on_both_backends]
async fn without_a_mail_server_nothing_can_be_verified(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    for refused in [
        request(&server, &token).await,
        change_email(&server, &token, "new@example.test", PASSWORD).await,
    ] {
        assert_eq!(refusal(refused), is(Code::FailedPrecondition, "MAIL_NOT_CONFIGURED"));
    }
}

#[on_both_backends]
async fn a_guest_who_upgrades_verifies_the_address_before_playing_on(database: TestDatabase) {
    let mails = MailServer::start_with(database, &["--require-verified-email"]).await;
    let server = &mails.server;
    let guest = guest(server).await;
    let refused = request(server, &guest.access).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "GUEST_ACCOUNT"));
    let upgraded = upgrade(server, &guest.access, upgrade_to("ann"))
        .await
        .expect("upgraded");
    assert_eq!(upgraded.tokens, None);
    assert_refused(server, &guest.access).await;
    let refused = login(server, "ann", PASSWORD).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED"));
    let mail = mails.about_email("ann@example.test", 1).await;
    verify_by(server, "ann", PASSWORD, &mail.code())
        .await
        .expect("verified");
    login(server, "ann", PASSWORD).await.expect("logged in");
}
