//! Users change their address, and undo a change that was not theirs.

use std::time::Duration;

use proto::auth::v1::{
    ChangeEmailRequest, ConfirmEmailChangeRequest, RegisterRequest, RevertEmailChangeRequest, UpdateMeRequest, User,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, with_token},
};
use tonic::{Code, Status};

use super::{Mail, MailServer, NEW, becomes_true, change_email, confirm, login, reset};
use crate::{
    support::{
        PASSWORD, Server,
        callers::{is, refusal},
        count, execute, registration,
    },
    users::calls::{assert_refused, change, me, refresh, users},
};

pub(super) const OLD: &str = "ann@example.test";
pub(super) const THIEF: &str = "thief@example.test";

/// Undoes a change with the link in this mail.
pub(super) async fn revert(server: &Server, mail: &Mail) -> Result<(), Status> {
    let (action, values) = mail.link();
    assert_eq!(action, "revert-email");
    revert_with(server, &values["user_id"], &values["code"]).await
}

async fn revert_with(server: &Server, user_id: &str, code: &str) -> Result<(), Status> {
    let request = RevertEmailChangeRequest {
        user_id: user_id.to_owned(),
        code: code.to_owned(),
    };
    server.account().revert_email_change(request).await.map(|_| ())
}

/// Changes the address and confirms it. `earlier` is the number of mails about addresses that the
/// new one has got so far.
pub(super) async fn move_to(mails: &MailServer, token: &str, email: &str, password: &str, earlier: usize) -> User {
    change_email(&mails.server, token, email, password)
        .await
        .expect("asked");
    let mail = mails.about_email(email, earlier + 1).await;
    confirm(&mails.server, token, &mail.code()).await.expect("confirmed")
}

#[on_both_backends]
async fn an_address_changes_once_the_new_one_has_proved_itself(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    change_email(server, &token, "New@Example.test", PASSWORD)
        .await
        .expect("asked");
    let mail = mails.about_email("New@example.test", 1).await;
    assert!(mail.text.contains("valid for 24 hours."), "{}", mail.text);
    assert_eq!(me(server, &token).await.expect("me").email, OLD);
    let user = confirm(server, &token, &mail.code()).await.expect("confirmed");
    assert_eq!(user.email, "New@Example.test");
    assert!(user.email_verify_time.is_some());
    assert_eq!(me(server, &token).await.expect("me"), user);
    let again = confirm(server, &token, &mail.link().1["code"]).await;
    assert_eq!(refusal(again), is(Code::PermissionDenied, "EMAIL_CODE_INVALID"));
    // The new address logs in, and the former one is told.
    login(server, "new@example.test", PASSWORD).await.expect("logged in");
    let refused = login(server, OLD, PASSWORD).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    let notice = mails.about_email(OLD, 2).await;
    assert!(
        notice.text.contains("127.0.0.1") && notice.text.contains("within 72 hours"),
        "{}",
        notice.text
    );
    assert!(!notice.text.contains("New@"), "{}", notice.text);
}

#[on_both_backends]
async fn a_change_that_was_not_the_owners_is_undone(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    mails.register_verified("ann").await;
    let stolen = login(server, "ann", PASSWORD).await.expect("logged in");
    let thief = stolen.tokens.expect("tokens");
    move_to(&mails, &thief.access_token, THIEF, PASSWORD, 0).await;
    let notice = mails.about_email(OLD, 2).await;
    // Whatever the thief does next, the link works: another password, another login, another
    // address.
    let changed = server
        .account()
        .change_password(with_token(change(PASSWORD, NEW), &thief.access_token))
        .await;
    let thief = changed.expect("changed").into_inner().tokens.expect("tokens");
    let rename = UpdateMeRequest {
        user: Some(User {
            login: "thief".to_owned(),
            ..User::default()
        }),
        current_password: NEW.to_owned(),
        ..UpdateMeRequest::default()
    };
    server
        .account()
        .update_me(with_token(rename, &thief.access_token))
        .await
        .expect("renamed");
    let token = refresh(server, &thief.refresh_token).await.expect("a token");
    move_to(&mails, &token, "second@example.test", NEW, 0).await;
    let of_thief = mails.about_email(THIEF, 2).await;
    // Meanwhile the address stays reserved.
    let other = RegisterRequest {
        email: OLD.to_owned(),
        ..registration("eve")
    };
    let taken = server.auth().register(other).await;
    assert_eq!(refusal(taken), is(Code::AlreadyExists, "USER_ALREADY_EXISTS"));

    revert(server, &notice).await.expect("undone");
    assert_refused(server, &token).await;
    for (identifier, password) in [(OLD, PASSWORD), (OLD, NEW), ("thief", NEW)] {
        let refused = login(server, identifier, password).await;
        assert_eq!(refusal(refused), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    }
    for used in [&notice, &of_thief] {
        assert_eq!(
            refusal(revert(server, used).await),
            is(Code::Unauthenticated, "CODE_INVALID")
        );
    }
    let mail = mails.with_link(OLD, "reset-password", 1).await;
    for words in [
        "The change of your e-mail address at",
        "was undone,",
        "Your previous password no longer works",
        "logged out of every device",
        "valid for 10 minutes.",
    ] {
        let text = mail.text.replace("\r\n", " ");
        assert!(text.contains(words), "{words}: {text}");
    }
    let answer = reset(&mut server.auth(), OLD, &mail.code(), "third horse")
        .await
        .expect("reset");
    assert_eq!(answer.user.expect("a user").email, OLD);
}

#[on_both_backends]
async fn an_address_that_was_never_verified_gets_a_notice_and_no_link(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    mails.about_email(OLD, 1).await;
    move_to(&mails, &token, "new@example.test", PASSWORD, 0).await;
    let notice = mails.about_email(OLD, 2).await;
    assert!(!notice.text.contains("http"), "{}", notice.text);
    // Its owner can have it.
    let other = RegisterRequest {
        email: OLD.to_owned(),
        ..registration("owner")
    };
    server.auth().register(other).await.expect("registered");
}

#[on_both_backends]
async fn a_change_can_be_undone_for_three_days(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    move_to(&mails, &token, "new@example.test", PASSWORD, 0).await;
    let notice = mails.about_email(OLD, 2).await;
    let (_, values) = notice.link();
    let someone = mails.server.register("bob").await.user.expect("a user").user_id;
    for (user_id, code) in [
        (someone.as_str(), values["code"].as_str()),
        ("00000000-0000-4000-8000-000000000000", &values["code"]),
        (&values["user_id"], "AAAAAAAAAAAAAAAAAAAAAA"),
        (&values["user_id"], "ABCD-EFGH"),
    ] {
        let refused = revert_with(server, user_id, code).await.expect_err("refused");
        // No new code can be requested.
        let shown = "call RequestPasswordReset, and otherwise ask an administrator";
        assert!(refused.message().contains(shown), "{refused}");
        assert_eq!(
            refusal(Err::<(), _>(refused)),
            is(Code::Unauthenticated, "CODE_INVALID")
        );
    }
    server.clock.advance(Duration::from_hours(72));
    assert_eq!(
        refusal(revert(server, &notice).await),
        is(Code::Unauthenticated, "CODE_INVALID")
    );
    login(server, "new@example.test", PASSWORD).await.expect("logged in");
}

#[on_both_backends]
async fn an_address_changes_for_exactly_one_of_twenty_callers(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    change_email(server, &token, "new@example.test", PASSWORD)
        .await
        .expect("asked");
    let code = mails.about_email("new@example.test", 1).await.code();
    let racers: Vec<_> = (0..20)
        .map(|_| {
            let (mut client, token, code) = (server.account(), token.clone(), code.clone());
            tokio::spawn(async move {
                let request = ConfirmEmailChangeRequest {
                    code,
                    ..ConfirmEmailChangeRequest::default()
                };
                client.confirm_email_change(with_token(request, &token)).await
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
async fn an_address_that_another_user_has_is_refused(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    server.register("bob").await;
    let taken = change_email(server, &token, "BOB@example.test", PASSWORD).await;
    assert_eq!(refusal(taken), is(Code::AlreadyExists, "USER_ALREADY_EXISTS"));
    // Another user gets it before the change is confirmed.
    change_email(server, &token, "zoe@example.test", PASSWORD)
        .await
        .expect("asked");
    let code = mails.about_email("zoe@example.test", 1).await.code();
    server.register("zoe").await;
    let taken = confirm(server, &token, &code).await;
    assert_eq!(refusal(taken), is(Code::AlreadyExists, "USER_ALREADY_EXISTS"));
    assert_eq!(me(server, &token).await.expect("me").email, OLD);
}

#[on_both_backends]
async fn a_change_needs_the_password_and_takes_the_place_of_an_earlier_one(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    let wrong = change_email(server, &token, "new@example.test", "wrong horse").await;
    assert_eq!(refusal(wrong), is(Code::PermissionDenied, "CURRENT_PASSWORD_WRONG"));
    for (email, field) in [("no address", "email"), (OLD, "email"), ("", "email")] {
        let bad = change_email(server, &token, email, PASSWORD).await;
        assert_eq!(bad_fields(&bad.expect_err("refused")), [field]);
    }
    let nobody = ChangeEmailRequest {
        email: "new@example.test".to_owned(),
        current_password: PASSWORD.to_owned(),
        ..ChangeEmailRequest::default()
    };
    let refused = server.account().change_email(nobody.clone()).await;
    assert_eq!(bad_fields(&refused.expect_err("refused")), ["identifier"]);
    let refused = server.account().change_email(ChangeEmailRequest::default()).await;
    assert_eq!(
        bad_fields(&refused.expect_err("refused")),
        ["identifier", "email", "current_password"]
    );
    // Two changes are asked for, and only the second can be confirmed.
    change_email(server, &token, "first@example.test", PASSWORD)
        .await
        .expect("asked");
    let first = mails.about_email("first@example.test", 1).await;
    let by_password = ChangeEmailRequest {
        identifier: "ann".to_owned(),
        ..nobody
    };
    server.account().change_email(by_password).await.expect("asked");
    let second = mails.about_email("new@example.test", 1).await;
    for code in [&first.code(), &first.link().1["code"]] {
        confirm(server, &token, code).await.expect_err("refused");
    }
    let by_password = ConfirmEmailChangeRequest {
        code: second.code(),
        identifier: "ann".to_owned(),
        password: PASSWORD.to_owned(),
    };
    let changed = server
        .account()
        .confirm_email_change(by_password)
        .await
        .expect("confirmed");
    assert_eq!(changed.into_inner().user.expect("a user").email, "new@example.test");
}

#[on_both_backends]
async fn a_token_of_somebody_else_does_not_hide_from_where_the_address_was_changed(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    mails.register_verified("ann").await;
    let bob = server.register("bob").await.tokens.expect("tokens").access_token;
    let request = ChangeEmailRequest {
        email: "new@example.test".to_owned(),
        current_password: PASSWORD.to_owned(),
        identifier: "ann".to_owned(),
    };
    let asked = server.account().change_email(with_token(request, &bob)).await;
    asked.expect("asked");
    let request = ConfirmEmailChangeRequest {
        code: mails.about_email("new@example.test", 1).await.code(),
        identifier: "ann".to_owned(),
        password: PASSWORD.to_owned(),
    };
    let confirmed = server.account().confirm_email_change(with_token(request, &bob)).await;
    assert_eq!(
        confirmed.expect("confirmed").into_inner().user.expect("a user").login,
        "ann"
    );
    let notice = mails.about_email(OLD, 2).await;
    assert!(notice.text.contains("from the IP address 127.0.0.1"), "{}", notice.text);
    assert_eq!(me(server, &bob).await.expect("me").email, "bob@example.test");
}

#[on_both_backends]
async fn the_recomputation_of_keys_gives_no_address_away_that_its_owner_can_get_back(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("strasse").await;
    let reserved = "strasse@example.test";
    move_to(&mails, &token, "new@example.test", PASSWORD, 0).await;
    let notice = mails.about_email(reserved, 2).await;
    // An older version gives somebody an address that is another spelling of the former one.
    server.register("eve").await;
    let other_spelling = "UPDATE users SET email = 'straße@example.test', email_folded = 'straße@example.test', \
        key_time = NULL WHERE login = 'eve'";
    execute(server, other_spelling).await;
    let (running, _) = server.replica().await;
    running.stop().await.expect("stopped");
    let has_lost = "users WHERE login = 'eve' AND email_is_taken";
    assert_eq!(count(server.database.db(), has_lost).await, 1);
    let refused = login(server, reserved, PASSWORD).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "CREDENTIALS_INVALID"));
    revert(server, &notice).await.expect("undone");
    let mail = mails.with_link(reserved, "reset-password", 1).await;
    reset(&mut server.auth(), reserved, &mail.code(), NEW)
        .await
        .expect("reset");
    let answer = login(server, reserved, NEW).await.expect("logged in");
    assert_eq!(answer.user.expect("a user").login, "strasse");
}

#[on_both_backends]
async fn an_address_that_is_no_longer_reserved_goes_to_the_user_who_has_it(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("strasse").await;
    move_to(&mails, &token, "new@example.test", PASSWORD, 0).await;
    server.register("eve").await;
    let other_spelling = "UPDATE users SET email = 'straße@example.test', email_folded = 'straße@example.test', \
        key_time = NULL WHERE login = 'eve'";
    execute(server, other_spelling).await;
    let (running, _) = server.replica().await;
    running.stop().await.expect("stopped");
    assert_eq!(count(server.database.db(), "users WHERE email_is_taken").await, 1);
    server.clock.advance(Duration::from_hours(73));
    server.clock.settle();
    becomes_true(async || {
        server.clock.advance(Duration::from_mins(2));
        count(server.database.db(), "users WHERE email_is_taken").await == 0
    })
    .await;
    let answer = login(server, "STRASSE@example.test", PASSWORD)
        .await
        .expect("logged in");
    assert_eq!(answer.user.expect("a user").login, "eve");
}

#[on_both_backends]
async fn where_mail_is_set_up_a_profile_update_does_not_change_the_address(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    let update = UpdateMeRequest {
        user: Some(User {
            email: "new@example.test".to_owned(),
            ..User::default()
        }),
        current_password: PASSWORD.to_owned(),
        ..UpdateMeRequest::default()
    };
    let refused = server.account().update_me(with_token(update, &token)).await;
    assert_eq!(
        refusal(refused),
        is(Code::FailedPrecondition, "EMAIL_CONFIRMATION_REQUIRED")
    );
}

#[on_both_backends]
async fn a_thief_cannot_push_the_owners_address_out_with_further_changes(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    for number in 0..5 {
        move_to(&mails, &token, &format!("n{number}@example.test"), PASSWORD, 0).await;
    }
    change_email(server, &token, "last@example.test", PASSWORD)
        .await
        .expect("asked");
    let code = mails.about_email("last@example.test", 1).await.code();
    let refused = confirm(server, &token, &code).await;
    assert_eq!(refusal(refused), is(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS"));
    revert(server, &mails.about_email(OLD, 2).await).await.expect("undone");
}

#[on_both_backends]
async fn a_temporary_password_changes_no_address_and_an_expired_one_asks_for_no_mail(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    let user_id = server.register("ann").await.user.expect("a user").user_id;
    let set = proto::auth::v1::SetPasswordRequest {
        user_id,
        password: "temporary horse".to_owned(),
    };
    users(server).set_password(with_token(set, &root)).await.expect("set");
    let request = ChangeEmailRequest {
        email: THIEF.to_owned(),
        current_password: "temporary horse".to_owned(),
        identifier: "ann".to_owned(),
    };
    let refused = server.account().change_email(request.clone()).await;
    assert_eq!(
        refusal(refused),
        is(Code::FailedPrecondition, "PASSWORD_CHANGE_REQUIRED")
    );
    server.clock.advance(Duration::from_hours(7 * 24 + 1));
    server.clock.settle();
    let refused = server.account().change_email(request).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "PASSWORD_EXPIRED"));
}

#[on_both_backends]
async fn an_owner_who_changes_the_address_back_leaves_the_thief_nothing(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    let token = mails.register_verified("ann").await;
    let user_id = me(server, &token).await.expect("me").user_id;
    // The thief changes the address, and the owner changes it back.
    move_to(&mails, &token, THIEF, PASSWORD, 0).await;
    mails.about_email(OLD, 2).await;
    move_to(&mails, &token, OLD, PASSWORD, 2).await;
    let to_thief = mails.about_email(THIEF, 2).await;
    assert!(!to_thief.text.contains("http"), "{}", to_thief.text);
    // Or an administrator does.
    let by_thief = "other@example.test";
    move_to(&mails, &token, THIEF, PASSWORD, 2).await;
    move_to(&mails, &token, by_thief, PASSWORD, 0).await;
    let to_thief = mails.about_email(THIEF, 4).await;
    let update = proto::auth::v1::UpdateUserRequest {
        user_id,
        user: Some(User {
            email: OLD.to_owned(),
            ..User::default()
        }),
        ..proto::auth::v1::UpdateUserRequest::default()
    };
    users(server)
        .update_user(with_token(update, &root))
        .await
        .expect("updated");
    let refused = revert(server, &to_thief).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "CODE_INVALID"));
}

#[on_both_backends]
async fn an_old_login_changes_no_address_but_the_password_with_the_identifier_does(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    server.clock.advance(Duration::from_mins(16));
    let refused = change_email(server, &token, "new@example.test", PASSWORD).await;
    assert_eq!(refusal(refused), is(Code::Unauthenticated, "STEP_UP_REQUIRED"));
    let by_password = ChangeEmailRequest {
        email: "new@example.test".to_owned(),
        current_password: PASSWORD.to_owned(),
        identifier: "ann".to_owned(),
    };
    let asked = server.account().change_email(with_token(by_password, &token)).await;
    asked.expect("the token is ignored");
}
