//! Administrators invite users and start resets of passwords, without knowing a password.

use std::{fs, time::Duration};

use proto::auth::v1::{
    DeleteMeRequest, InviteUserRequest, InviteUserResponse, RegisterRequest, SendPasswordResetRequest,
    UpdateUserRequest, User,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, with_token},
};
use tonic::{Code, Status};

use super::{MailServer, NEW, becomes_true, login, request_reset, reset, settings_of};
use crate::{
    support::{
        PASSWORD, Server,
        callers::{is, refusal, server_with_root},
        count, execute, registration, settings,
    },
    users::calls::{assert_refused, deactivate, delete, me, refresh, set_password, users},
};

const DAY: Duration = Duration::from_hours(24);

fn invitation(login: &str, roles: &[&str]) -> InviteUserRequest {
    InviteUserRequest {
        email: format!("{login}@example.test"),
        login: login.to_owned(),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        ..InviteUserRequest::default()
    }
}

async fn invite(server: &Server, token: &str, request: InviteUserRequest) -> Result<InviteUserResponse, Status> {
    let answer = users(server).invite_user(with_token(request, token)).await?;
    Ok(answer.into_inner())
}

async fn invited(server: &Server, token: &str, login: &str) -> User {
    let answer = invite(server, token, invitation(login, &[])).await.expect("invited");
    answer.user.expect("a user")
}

async fn send_reset(server: &Server, token: &str, user_id: &str, invalidate_password: bool) -> Result<(), Status> {
    let request = SendPasswordResetRequest {
        user_id: user_id.to_owned(),
        invalidate_password,
    };
    let answer = users(server).send_password_reset(with_token(request, token)).await;
    answer.map(|_| ())
}

#[on_both_backends]
async fn an_invited_user_chooses_the_password_and_nobody_else_knows_one(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    let request = InviteUserRequest {
        first_name: "Ann".to_owned(),
        locale: "ru".to_owned(),
        ..invitation("ann", &["player", "admin"])
    };
    let answer = invite(server, &root, request).await.expect("invited");
    assert_eq!(answer.roles, ["admin", "player"]);
    let user = answer.user.expect("a user");
    assert!(user.invite_time.is_some() && user.is_active && !user.must_change_password);
    assert_eq!((user.first_name.as_str(), user.email_verify_time), ("Ann", None));
    for password in [PASSWORD, NEW] {
        assert_eq!(
            refusal(login(server, "ann", password).await),
            is(Code::Unauthenticated, "CREDENTIALS_INVALID")
        );
    }
    let mail = mails.to("ann", 1).await.remove(0);
    for shown in ["Ваше имя для входа: ann.", "Код и ссылка действуют ещё 7 дн."]
    {
        assert!(mail.text.contains(shown), "{}", mail.text);
    }
    let (action, values) = mail.link();
    assert_eq!(
        (action.as_str(), values["identifier"].as_str()),
        ("accept-invitation", "ann")
    );
    let answer = reset(&mut server.auth(), "ann", &values["code"], NEW)
        .await
        .expect("accepted");
    let accepted = answer.user.expect("a user");
    assert!(accepted.email_verify_time.is_some() && accepted.last_login_time.is_some());
    assert_eq!(accepted.invite_time, None);
    let token = answer.tokens.expect("tokens").access_token;
    assert_eq!(me(server, &token).await.expect("me"), accepted);
    login(server, "ann", NEW).await.expect("logged in");
    for code in [mail.code(), values["code"].clone()] {
        let again = reset(&mut server.auth(), "ann", &code, "third horse").await;
        assert_eq!(refusal(again), is(Code::Unauthenticated, "CODE_INVALID"));
    }
    // The only other mail tells of the login from another device.
    assert_eq!(mails.to("ann", 2).await.len(), 2);
    let audited = "audit_events WHERE action = 'user.invite' AND outcome = 'success'";
    assert_eq!(count(server.database.db(), audited).await, 1);
}

#[on_both_backends]
async fn an_invitation_is_valid_for_a_week_and_can_be_sent_again(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    let ann = invited(server, &root, "ann").await;
    let first = mails.to("ann", 1).await.remove(0);
    server.clock.advance(3 * DAY);
    let root = server.login("root").await.access_token;
    send_reset(server, &root, &ann.user_id, false).await.expect("sent");
    let second = mails.to("ann", 2).await.remove(1);
    assert_eq!((second.code(), second.link()), (first.code(), first.link()));
    assert!(second.text.contains("valid for 7 days"), "{}", second.text);
    server.clock.advance(7 * DAY + Duration::from_secs(1));
    let late = reset(&mut server.auth(), "ann", &first.code(), NEW).await;
    assert_eq!(refusal(late), is(Code::Unauthenticated, "CODE_INVALID"));
    let root = server.login("root").await.access_token;
    send_reset(server, &root, &ann.user_id, false).await.expect("sent");
    let third = mails.to("ann", 3).await.remove(2);
    assert_ne!(third.code(), first.code());
    // Guessing does not end the link.
    for _ in 0..6 {
        let wrong = reset(&mut server.auth(), "ann", "2222-2222", NEW).await;
        assert_eq!(refusal(wrong), is(Code::Unauthenticated, "CODE_INVALID"));
    }
    let typed = reset(&mut server.auth(), "ann", &third.code(), NEW).await;
    assert_eq!(refusal(typed), is(Code::Unauthenticated, "CODE_INVALID"));
    let code = third.link().1["code"].clone();
    reset(&mut server.auth(), "ann", &code, NEW).await.expect("accepted");
}

#[on_both_backends]
async fn an_invited_user_can_also_ask_for_a_code(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    invited(server, &root, "ann").await;
    let invitation = mails.to("ann", 1).await.remove(0);
    request_reset(&mut server.auth(), "ann").await.expect("asked");
    let code = mails.to("ann", 2).await.remove(1).code();
    assert_ne!(code, invitation.code());
    let answer = reset(&mut server.auth(), "ann", &code, NEW).await.expect("reset");
    assert_eq!(answer.user.expect("a user").invite_time, None);
    // The invitation is settled.
    let late = reset(&mut server.auth(), "ann", &invitation.code(), "third horse").await;
    assert_eq!(refusal(late), is(Code::Unauthenticated, "CODE_INVALID"));
}

#[on_both_backends]
async fn an_invitation_that_is_refused_creates_nothing(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    let db = server.database.db();
    let bad = InviteUserRequest {
        email: "x".to_owned(),
        login: "a".to_owned(),
        first_name: "a\nb".to_owned(),
        locale: "not a language".to_owned(),
        roles: vec!["A B".to_owned()],
        ..InviteUserRequest::default()
    };
    assert_eq!(
        bad_fields(&invite(server, &root, bad).await.expect_err("refused")),
        ["email", "login", "first_name", "roles[0]", "locale"]
    );
    let unknown = invite(server, &root, invitation("ann", &["nobody"])).await;
    assert_eq!(refusal(unknown), is(Code::NotFound, "ROLE_NOT_FOUND"));
    assert_eq!(count(db, "users WHERE login = 'ann'").await, 0);
    invited(server, &root, "ann").await;
    let taken = invite(server, &root, invitation("ANN", &[]))
        .await
        .expect_err("refused");
    assert_eq!(bad_fields(&taken), ["login", "email"]);
    assert_eq!(taken.code(), Code::AlreadyExists);

    // An administrator gives no more than they hold, and the attempt is recorded.
    let admin = invite(server, &root, invitation("bob", &["admin"])).await;
    admin.expect("invited");
    let code = mails.to("bob", 1).await.remove(0).code();
    let bob = reset(&mut server.auth(), "bob", &code, NEW).await.expect("accepted");
    let bob = bob.tokens.expect("tokens").access_token;
    let refused = invite(server, &bob, invitation("eve", &["superuser"])).await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "SUPERUSER_REQUIRED"));
    let refusals = "audit_events WHERE action = 'user.invite' AND outcome = 'failure'";
    assert_eq!(count(db, refusals).await, 1);
    let player = server.register("player").await.tokens.expect("tokens").access_token;
    let refused = invite(server, &player, invitation("eve", &[])).await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "PERMISSION_DENIED"));
    assert_eq!(count(db, "users WHERE login = 'eve'").await, 0);
}

#[on_both_backends]
async fn nobody_is_invited_whom_no_mail_reaches(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    for refused in [
        invite(&server, &root.token, invitation("ann", &[])).await.map(drop),
        send_reset(
            &server,
            &root.token,
            &server.register("bob").await.user.expect("a user").user_id,
            true,
        )
        .await,
    ] {
        assert_eq!(refusal(refused), is(Code::FailedPrecondition, "MAIL_NOT_CONFIGURED"));
    }
    login(&server, "bob", PASSWORD).await.expect("logged in");
    assert_eq!(count(server.database.db(), "users WHERE login = 'ann'").await, 0);
}

#[on_both_backends]
async fn a_local_address_is_refused_by_a_mail_server(database: TestDatabase) {
    let arguments = ["--smtp-url", "smtp://127.0.0.1:1", "--mail-from", "game@example.com"];
    let server = Server::start_with(database, &settings(&arguments)).await;
    let root = server.superuser().await;
    let request = InviteUserRequest {
        email: "ann@localhost".to_owned(),
        ..invitation("ann", &[])
    };
    let refused = invite(&server, &root, request).await.expect_err("refused");
    assert_eq!(bad_fields(&refused), ["email"]);
    assert_eq!(count(server.database.db(), "users WHERE login = 'ann'").await, 0);
}

#[on_both_backends]
async fn an_administrator_starts_a_reset_and_can_end_the_present_password(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    let ann = server.register("ann").await;
    let (user_id, tokens) = (ann.user.expect("a user").user_id, ann.tokens.expect("tokens"));
    send_reset(server, &root, &user_id, false).await.expect("sent");
    let first = mails.to("ann", 1).await.remove(0);
    assert!(first.text.contains("valid for 24 hours") && !first.text.contains("no longer works"));
    // The password and the sessions are as they were.
    me(server, &tokens.access_token).await.expect("me");
    send_reset(server, &root, &user_id, true).await.expect("sent");
    let second = mails.to("ann", 2).await.remove(1);
    assert!(
        second.text.contains("Your present password no longer works"),
        "{}",
        second.text
    );
    assert_refused(server, &tokens.access_token).await;
    assert_eq!(
        refusal(refresh(server, &tokens.refresh_token).await),
        is(Code::Unauthenticated, "SESSION_ENDED")
    );
    assert_eq!(
        refusal(login(server, "ann", PASSWORD).await),
        is(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    let late = reset(&mut server.auth(), "ann", &first.code(), NEW).await;
    assert_eq!(refusal(late), is(Code::Unauthenticated, "CODE_INVALID"));
    let (action, values) = second.link();
    assert_eq!(action, "reset-password");
    reset(&mut server.auth(), "ann", &values["code"], NEW)
        .await
        .expect("reset");
    login(server, "ann", NEW).await.expect("logged in");
    let audited = "audit_events WHERE action = 'user.send_password_reset' AND outcome = 'success'";
    assert_eq!(count(server.database.db(), audited).await, 2);
}

#[on_both_backends]
async fn an_invited_user_keeps_the_address_without_verifying_it(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let mut arguments = mails.arguments.clone();
    arguments.push("--require-verified-email".to_owned());
    let mut strict = server.replica_ahead(0, &settings_of(&arguments)).await.1;
    server.clock.advance(Duration::from_hours(1));
    let root = server.superuser().await;
    invited(server, &root, "eve").await;
    server.register("ann").await;
    server.clock.advance(2 * DAY);
    server.clock.settle();
    let with_address_of = |login: &str| RegisterRequest {
        email: format!("{login}@example.test"),
        ..registration("other")
    };
    let taken = strict.register(with_address_of("eve")).await;
    assert_eq!(refusal(taken), is(Code::AlreadyExists, "USER_ALREADY_EXISTS"));
    // A user who has registered gives it up.
    strict.register(with_address_of("ann")).await.expect("registered");
}

#[on_both_backends]
async fn an_administrator_also_ends_a_password_that_an_older_version_gave_an_invited_user(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    let ann = invited(server, &root, "ann").await;
    let first = mails.to("ann", 1).await.remove(0);
    // It does not know of invitations, so it leaves the time of this one.
    let password = "UPDATE users SET password_hash = (SELECT password_hash FROM users WHERE login = 'root') \
        WHERE login = 'ann'";
    execute(server, password).await;
    let tokens = server.login("ann").await;
    send_reset(server, &root, &ann.user_id, true).await.expect("sent");
    assert_eq!(
        refusal(login(server, "ann", PASSWORD).await),
        is(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    assert_refused(server, &tokens.access_token).await;
    assert_eq!(
        refusal(refresh(server, &tokens.refresh_token).await),
        is(Code::Unauthenticated, "SESSION_ENDED")
    );
    let late = reset(&mut server.auth(), "ann", &first.code(), NEW).await;
    assert_eq!(refusal(late), is(Code::Unauthenticated, "CODE_INVALID"));
    // Ann is still invited.
    let second = mails.with_link("ann@example.test", "accept-invitation", 2).await;
    let answer = reset(&mut server.auth(), "ann", &second.code(), NEW).await;
    assert_eq!(answer.expect("accepted").user.expect("a user").invite_time, None);
}

#[on_both_backends]
async fn a_reset_by_an_administrator_is_refused_as_a_whole(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    let root_id = me(server, &root).await.expect("me").user_id;
    let ann = server.register("ann").await.user.expect("a user").user_id;
    assert_eq!(
        refusal(send_reset(server, &root, &root_id, true).await),
        is(Code::FailedPrecondition, "OWN_ACCOUNT")
    );
    send_reset(server, &root, &root_id, false).await.expect("sent");
    let bad = send_reset(server, &root, "x", true).await.expect_err("refused");
    assert_eq!(bad_fields(&bad), ["user_id"]);
    // Requests of strangers do not use up what administrators may send.
    for _ in 0..5 {
        request_reset(&mut server.auth(), "ann").await.expect("asked");
    }
    for _ in 0..5 {
        send_reset(server, &root, &ann, false).await.expect("sent");
    }
    let refused = send_reset(server, &root, &ann, true).await;
    assert_eq!(refusal(refused), is(Code::ResourceExhausted, "TOO_MANY_MAILS"));
    login(server, "ann", PASSWORD).await.expect("the password still works");
    // An administrator does not act on a superuser.
    let code = {
        let admin = invite(server, &root, invitation("bob", &["admin"])).await;
        admin.expect("invited");
        mails.to("bob", 1).await.remove(0).code()
    };
    let bob = reset(&mut server.auth(), "bob", &code, NEW).await.expect("accepted");
    let bob = bob.tokens.expect("tokens").access_token;
    let refused = send_reset(server, &bob, &root_id, true).await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "SUPERUSER_REQUIRED"));
    let refusals = "audit_events WHERE action = 'user.send_password_reset' AND outcome = 'failure'";
    assert_eq!(count(server.database.db(), refusals).await, 1);
    deactivate(server, &root, &ann).await.expect("deactivated");
    server.clock.advance(Duration::from_mins(61));
    let root = server.login("root").await.access_token;
    assert_eq!(
        refusal(send_reset(server, &root, &ann, false).await),
        is(Code::FailedPrecondition, "USER_DEACTIVATED")
    );
}

#[on_both_backends]
async fn a_new_password_or_address_ends_an_invitation(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    let ann = invited(server, &root, "ann").await;
    let bob = invited(server, &root, "bob").await;
    let to_ann = mails.to("ann", 1).await.remove(0);
    let to_bob = mails.to("bob", 1).await.remove(0);
    set_password(server, &root, &ann.user_id).await.expect("set");
    let update = UpdateUserRequest {
        user_id: bob.user_id,
        user: Some(User {
            email: "robert@example.test".to_owned(),
            ..User::default()
        }),
        ..UpdateUserRequest::default()
    };
    let updated = users(server).update_user(with_token(update, &root)).await;
    updated.expect("updated");
    for (login, mail) in [("ann", to_ann), ("bob", to_bob)] {
        for code in [mail.code(), mail.link().1["code"].clone()] {
            let late = reset(&mut server.auth(), login, &code, NEW).await;
            assert_eq!(refusal(late), is(Code::Unauthenticated, "CODE_INVALID"));
        }
    }
}

#[on_both_backends]
async fn a_deletion_ends_codes_and_waiting_mails(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    mails.to("root", 1).await;
    let bob = server.register("bob").await.tokens.expect("tokens").access_token;
    let invited = invited(server, &root, "ann").await;
    let code = mails.to("ann", 1).await.remove(0).code();
    let db = server.database.db();
    becomes_true(async || count(db, "mail_outbox").await == 0).await;
    // A file in the place of the folder makes every attempt fail, so mails wait.
    let folder = mails.folder.path();
    fs::remove_dir_all(folder).expect("removed");
    fs::write(folder, "").expect("written");
    send_reset(server, &root, &invited.user_id, false).await.expect("sent");
    send_reset(server, &root, &me(server, &bob).await.expect("me").user_id, false)
        .await
        .expect("sent");
    assert_eq!(count(db, "mail_outbox").await, 2);
    delete(server, &root, &invited.user_id).await.expect("deleted");
    let request = DeleteMeRequest {
        current_password: PASSWORD.to_owned(),
        ..DeleteMeRequest::default()
    };
    let deleted = server.account().delete_me(with_token(request, &bob)).await;
    deleted.expect("deleted");
    // The administrator's own code stays.
    assert_eq!(count(db, "account_codes").await, 1);
    for nothing in [
        "mail_outbox",
        "users WHERE invite_time IS NOT NULL",
        "users WHERE min_password_expire_time IS NOT NULL",
    ] {
        assert_eq!(count(db, nothing).await, 0, "{nothing}");
    }
    let late = reset(&mut server.auth(), "ann", &code, NEW).await;
    assert_eq!(refusal(late), is(Code::Unauthenticated, "CODE_INVALID"));
}
