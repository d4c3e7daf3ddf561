//! A forgotten password is replaced with a code from a mail.

use std::time::Duration;

use proto::auth::v1::{
    LoginRequest, RegisterRequest, RequestPasswordResetRequest, ResetPasswordRequest, RevokeAllTokensRequest,
    UpdateMeRequest, User,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, with_token},
};
use tonic::{Code, Request};

use super::{MailServer, NEW, change_email, confirm, login, request_reset, request_reset_from, reset};
use crate::{
    support::{
        PASSWORD, Server,
        callers::{is, refusal},
        credentials, dump, registration,
    },
    users::calls::{assert_refused, change, deactivate, me, refresh},
};

#[on_both_backends]
async fn a_forgotten_password_is_replaced_with_a_code_from_a_mail(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let before = server.register("ann").await;
    let tokens = before.tokens.expect("tokens");
    assert_eq!(before.user.expect("a user").email_verify_time, None);
    let mail = mails.request(" ANN@Example.test ", 0).await;
    assert_eq!(mail.recipient(), "ann@example.test");
    assert!(
        mail.header("Subject").contains("127.0.0.1"),
        "{}",
        mail.header("Subject")
    );
    let answer = reset(&mut server.auth(), "ann", &mail.code(), NEW)
        .await
        .expect("reset");
    let user = answer.user.expect("a user");
    assert!(user.email_verify_time.is_some());
    let new = answer.tokens.expect("tokens");
    assert_eq!(me(server, &new.access_token).await.expect("me"), user);
    // Nothing from before works.
    assert_refused(server, &tokens.access_token).await;
    assert_eq!(
        refusal(refresh(server, &tokens.refresh_token).await),
        is(Code::Unauthenticated, "SESSION_ENDED")
    );
    assert_eq!(
        refusal(login(server, "ann", PASSWORD).await),
        is(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    // The user is told, and the code is used up.
    let notice = mails.mails(2).await.remove(1);
    assert_eq!(notice.recipient(), "ann@example.test");
    assert!(
        notice.text.contains("was changed on 2026-11-21 00:0"),
        "{}",
        notice.text
    );
    for code in [mail.code(), mail.link().1["code"].clone()] {
        let again = reset(&mut server.auth(), "ann", &code, "third horse").await;
        assert_eq!(refusal(again), is(Code::Unauthenticated, "CODE_INVALID"));
    }
    login(server, "ann", NEW).await.expect("logged in");
}

#[on_both_backends]
async fn a_link_works_after_any_number_of_wrong_codes_and_a_code_after_five_does_not(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    for login in ["ann", "bob"] {
        server.register(login).await;
    }
    let mail = mails.request("ann", 0).await;
    for _ in 0..5 {
        let wrong = reset(&mut server.auth(), "ann", "2222-2222", NEW).await;
        assert_eq!(refusal(wrong), is(Code::Unauthenticated, "CODE_INVALID"));
    }
    let right = reset(&mut server.auth(), "ann", &mail.code(), NEW).await;
    assert_eq!(refusal(right), is(Code::Unauthenticated, "CODE_INVALID"));
    // Another request sends the same link, so nobody can keep the owner out by guessing.
    let again = mails.request("ann", 1).await;
    assert_eq!(again.link(), mail.link());
    assert!(
        again.text.contains("tried too often") && !again.text.contains(&mail.code()),
        "{}",
        again.text
    );
    let (action, values) = mail.link();
    assert_eq!(
        (action.as_str(), values["identifier"].as_str()),
        ("reset-password", "ann@example.test")
    );
    let of_another = reset(&mut server.auth(), "bob", &values["code"], NEW).await;
    assert_eq!(refusal(of_another), is(Code::Unauthenticated, "CODE_INVALID"));
    reset(&mut server.auth(), "ann", &values["code"], NEW)
        .await
        .expect("reset");

    // Four wrong codes leave one try.
    let mail = mails.request("bob", 3).await;
    for _ in 0..4 {
        reset(&mut server.auth(), "bob", "2222-2222", NEW)
            .await
            .expect_err("refused");
    }
    reset(&mut server.auth(), "bob", &mail.code(), NEW)
        .await
        .expect("reset");
}

#[on_both_backends]
async fn a_code_expires_ten_minutes_after_its_last_mail_and_after_half_an_hour_at_most(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    mails.register_earlier("ann").await;
    let mail = mails.request("ann", 0).await;
    assert!(mail.text.contains("valid for 10 minutes."), "{}", mail.text);
    for (earlier, left) in [(1, "10 minutes."), (2, "10 minutes."), (3, "6 minutes.")] {
        server.clock.advance(Duration::from_mins(8));
        let again = mails.request("ann", earlier).await;
        assert_eq!((again.code(), again.link()), (mail.code(), mail.link()));
        assert!(again.text.contains(&format!("valid for {left}")), "{}", again.text);
    }
    server.clock.advance(Duration::from_secs(361));
    for code in [mail.code(), mail.link().1["code"].clone()] {
        let late = reset(&mut server.auth(), "ann", &code, NEW).await;
        assert_eq!(refusal(late), is(Code::Unauthenticated, "CODE_INVALID"));
    }
    server.clock.advance(Duration::from_mins(60));
    let fresh = mails.request("ann", 4).await;
    assert_ne!(fresh.code(), mail.code());
    reset(&mut server.auth(), "ann", &fresh.code(), NEW)
        .await
        .expect("reset");
}

#[on_both_backends]
async fn a_code_that_is_about_to_expire_is_replaced(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    mails.register_earlier("ann").await;
    let mail = mails.request("ann", 0).await;
    for earlier in [1, 2] {
        server.clock.advance(Duration::from_mins(9));
        mails.request("ann", earlier).await;
    }
    server.clock.advance(Duration::from_mins(8));
    let fresh = mails.request("ann", 3).await;
    assert_ne!(fresh.code(), mail.code());
    assert!(fresh.text.contains("valid for 10 minutes."), "{}", fresh.text);
}

#[on_both_backends]
async fn a_code_ends_with_every_logout_everywhere(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let mail = mails.request("ann", 0).await;
    let changed = server
        .account()
        .change_password(with_token(change(PASSWORD, NEW), &token))
        .await;
    let token = changed
        .expect("changed")
        .into_inner()
        .tokens
        .expect("tokens")
        .access_token;
    for code in [mail.code(), mail.link().1["code"].clone()] {
        let late = reset(&mut server.auth(), "ann", &code, "third horse").await;
        assert_eq!(refusal(late), is(Code::Unauthenticated, "CODE_INVALID"));
    }
    let mail = mails.request("ann", 2).await;
    let revoke = RevokeAllTokensRequest {};
    server
        .auth()
        .revoke_all_tokens(with_token(revoke, &token))
        .await
        .expect("revoked");
    let late = reset(&mut server.auth(), "ann", &mail.code(), "third horse").await;
    assert_eq!(refusal(late), is(Code::Unauthenticated, "CODE_INVALID"));
}

#[on_both_backends]
async fn a_code_is_used_by_exactly_one_of_fifty_callers(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    mails.server.register("ann").await;
    let mail = mails.request("ann", 0).await;
    let (first, second) = (mails.server.auth(), mails.replica().await);
    let code = mail.link().1["code"].clone();
    let racers: Vec<_> = (0..50)
        .map(|racer| {
            let mut client = if racer % 2 == 0 { first.clone() } else { second.clone() };
            let code = code.clone();
            tokio::spawn(async move { reset(&mut client, "ann", &code, &format!("horse number {racer}")).await })
        })
        .collect();
    let mut winners = 0;
    for racer in racers {
        match racer.await.expect("joined") {
            Ok(_) => winners += 1,
            Err(status) => assert_eq!(refusal(Err::<(), _>(status)), is(Code::Unauthenticated, "CODE_INVALID")),
        }
    }
    assert_eq!(winners, 1);
}

#[on_both_backends]
async fn no_mail_is_sent_to_users_who_cannot_log_in(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let ann = server.register("ann").await;
    let token = ann.tokens.expect("tokens").access_token;
    let delete = proto::auth::v1::DeleteMeRequest {
        current_password: PASSWORD.to_owned(),
        ..proto::auth::v1::DeleteMeRequest::default()
    };
    server
        .account()
        .delete_me(with_token(delete, &token))
        .await
        .expect("deleted");
    for identifier in [
        "ann",
        "ann@example.test",
        "nobody",
        "nobody@example.test",
        "deleted:x",
        "' OR 1=1 --",
    ] {
        request_reset(&mut server.auth(), identifier)
            .await
            .expect("the same answer");
    }
    assert_eq!(mails.answered("marker", 0).await.len(), 0);
    for identifier in ["ann", "nobody"] {
        let refused = reset(&mut server.auth(), identifier, "ABCD-EFGH", NEW).await;
        assert_eq!(refusal(refused), is(Code::Unauthenticated, "CODE_INVALID"));
    }
}

#[on_both_backends]
async fn no_mail_is_sent_to_a_deactivated_user(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    let ann = server.register("ann").await.user.expect("a user").user_id;
    deactivate(server, &root, &ann).await.expect("deactivated");
    request_reset(&mut server.auth(), "ann").await.expect("the same answer");
    // The only mail is about the login of the administrator.
    let mails = mails.answered("marker", 1).await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].recipient(), "root@example.test");
}

#[on_both_backends]
async fn an_address_gets_four_mails_an_hour_and_one_more_from_a_known_device(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let ann = mails.register_earlier("ann").await;
    let bob = server.register("bob").await;
    for _ in 0..8 {
        request_reset(&mut server.auth(), "ann").await.expect("asked");
        request_reset_from(&mut server.auth(), "ann@example.test", &bob.device_token)
            .await
            .expect("asked");
    }
    assert_eq!(mails.answered("marker", 4).await.len(), 4);
    for _ in 0..3 {
        request_reset_from(&mut server.auth(), "ann", &ann.device_token)
            .await
            .expect("asked");
    }
    assert_eq!(mails.answered("marker-2", 6).await.len(), 6);
    // Others are not affected, and an hour later there are more.
    server.clock.advance(Duration::from_secs(3601));
    assert_eq!(mails.request("ann", 7).await.recipient(), "ann@example.test");
}

#[on_both_backends]
async fn a_code_ends_with_the_address_that_it_was_sent_to(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let mail = mails.request("ann", 0).await;
    // It does not come back with the address. Each change mails a code to the new address and a
    // notice to the former one, which had so many mails before.
    let (ann, new) = ("ann@example.test", "new@example.test");
    for (email, mails_before, former, former_before) in [(new, 0, ann, 1), (ann, 2, new, 1), (new, 2, ann, 3)] {
        change_email(server, &token, email, PASSWORD).await.expect("asked");
        let code = mails.about_email(email, mails_before + 1).await.code();
        confirm(server, &token, &code).await.expect("confirmed");
        mails.about_email(former, former_before + 1).await;
        let refused = reset(&mut server.auth(), "ann", &mail.code(), NEW).await;
        assert_eq!(refusal(refused), is(Code::Unauthenticated, "CODE_INVALID"));
    }
    let mail = mails.request("ann", 1).await;
    assert_eq!(mail.recipient(), "new@example.test");
    let user = reset(&mut server.auth(), "ann", &mail.code(), NEW)
        .await
        .expect("reset")
        .user;
    assert!(user.expect("a user").email_verify_time.is_some());
}

#[on_both_backends]
async fn a_reset_ends_a_lock_out_and_every_device_token(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let device_token = server.register("ann").await.device_token;
    for _ in 0..30 {
        login(server, "ann", "wrong horse").await.expect_err("refused");
    }
    assert_eq!(
        refusal(login(server, "ann", PASSWORD).await),
        is(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS")
    );
    let mail = mails.request("ann", 0).await;
    reset(&mut server.auth(), "ann", &mail.code(), NEW)
        .await
        .expect("reset");
    login(server, "ann", NEW).await.expect("logged in");
    // The device of before is no longer known: its failures count for the account.
    for _ in 0..30 {
        let request = LoginRequest {
            device_token: device_token.clone(),
            ..credentials("ann", "wrong horse")
        };
        server.auth().login(request).await.expect_err("refused");
    }
    assert_eq!(
        refusal(login(server, "ann", NEW).await),
        is(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS")
    );
}

#[on_both_backends]
async fn mails_are_in_the_language_of_the_user(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let mut request = Request::new(registration("ann"));
    let accepted = "ru-RU,ru;q=0.9,en;q=0.8".parse().expect("a value");
    request.metadata_mut().insert("accept-language", accepted);
    let ann = server.auth().register(request).await.expect("registered").into_inner();
    assert_eq!(ann.user.expect("a user").locale, "ru-RU");
    assert!(mails.request("ann", 0).await.text.contains("Чтобы задать новый пароль"));
    let update = UpdateMeRequest {
        user: Some(User {
            locale: "en-gb".to_owned(),
            ..User::default()
        }),
        ..UpdateMeRequest::default()
    };
    let token = ann.tokens.expect("tokens").access_token;
    let updated = server
        .account()
        .update_me(with_token(update, &token))
        .await
        .expect("updated");
    assert_eq!(updated.into_inner().user.expect("a user").locale, "en-GB");
    assert!(mails.request("ann", 1).await.text.contains("To choose a new password"));
    // Without a language of their own, users get that of the request.
    server.register("bob").await;
    let mut request = Request::new(RequestPasswordResetRequest {
        identifier: "bob".to_owned(),
        ..RequestPasswordResetRequest::default()
    });
    request
        .metadata_mut()
        .insert("accept-language", "ru".parse().expect("a value"));
    server.auth().request_password_reset(request).await.expect("asked");
    assert!(mails.mails(3).await[2].text.contains("Чтобы задать новый пароль"));
    let bad = RegisterRequest {
        locale: "not a language".to_owned(),
        ..registration("eve")
    };
    assert_eq!(
        bad_fields(&server.auth().register(bad).await.expect_err("refused")),
        ["locale"]
    );
}

#[on_both_backends]
async fn the_database_holds_no_code_and_no_identifier_that_was_typed(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    server.register("ann").await;
    // A password is typed into the wrong field.
    request_reset(&mut server.auth(), "hunter2 is my password")
        .await
        .expect("asked");
    let dumped = dump(&server.database).await;
    assert!(!dumped.contains("hunter2"), "{dumped}");
    let mail = mails.request("ann", 0).await;
    let dumped = dump(&server.database).await;
    for secret in [mail.code(), mail.code().replace('-', ""), mail.link().1["code"].clone()] {
        assert!(!dumped.contains(&secret));
    }
}

#[on_both_backends]
async fn invalid_requests_name_every_bad_field_and_use_up_no_try(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    server.register("ann").await;
    let empty = server.auth().reset_password(ResetPasswordRequest::default()).await;
    assert_eq!(
        bad_fields(&empty.expect_err("refused")),
        ["identifier", "code", "new_password", "new_password_confirmation"]
    );
    let bad = ResetPasswordRequest {
        identifier: "a\0b".to_owned(),
        code: "ABC".to_owned(),
        new_password: "short".to_owned(),
        new_password_confirmation: "other".to_owned(),
        audience: "?".to_owned(),
    };
    assert_eq!(
        bad_fields(&server.auth().reset_password(bad).await.expect_err("refused")),
        [
            "identifier",
            "code",
            "new_password",
            "new_password_confirmation",
            "audience"
        ]
    );
    for identifier in [String::new(), "x".repeat(2000), "a\nb".to_owned()] {
        let refused = request_reset(&mut server.auth(), &identifier)
            .await
            .expect_err("refused");
        assert_eq!(bad_fields(&refused), ["identifier"]);
    }
    // A password that is the user's login is refused, and the code still works.
    let mail = mails.request("ann", 0).await;
    let unfit = reset(&mut server.auth(), "ann", &mail.code(), "ann@example.test").await;
    assert_eq!(bad_fields(&unfit.expect_err("refused")), ["new_password"]);
    reset(&mut server.auth(), "ann", &mail.code(), NEW)
        .await
        .expect("reset");
}

#[on_both_backends]
async fn without_a_mail_server_resets_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    server.register("ann").await;
    for identifier in ["ann", "nobody"] {
        let refused = request_reset(&mut server.auth(), identifier).await;
        assert_eq!(refusal(refused), is(Code::FailedPrecondition, "MAIL_NOT_CONFIGURED"));
    }
}
