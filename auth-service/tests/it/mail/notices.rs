//! Users are told by mail what was done to their account.

use proto::auth::v1::{LoginRequest, ResetPasswordRequest, UpdateMeRequest, UpdateUserRequest, User};
use testing::{TestDatabase, on_both_backends, rpc::with_token};
use tonic::Code;

use super::{Mail, MailServer, NEW, login, to};
use crate::{
    support::{
        PASSWORD, Server,
        callers::{is, refusal},
        credentials, rotate, with_password,
    },
    users::calls::{TEMPORARY, change, create, first_login, refresh, set_password, users},
};

/// Logs in from the device with this token.
async fn login_on(server: &Server, identifier: &str, device_token: &str) {
    let request = LoginRequest {
        device_token: device_token.to_owned(),
        ..credentials(identifier, PASSWORD)
    };
    server.auth().login(request).await.expect("logged in");
}

fn subjects(mails: &[Mail]) -> Vec<String> {
    let mut subjects: Vec<String> = mails.iter().map(|mail| mail.header("Subject")).collect();
    subjects.sort();
    subjects
}

#[on_both_backends]
async fn a_login_from_a_device_never_seen_is_announced(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let ann = server.register("ann").await;
    let bob = server.register("bob").await;
    login_on(server, "ann", &ann.device_token).await;
    login(server, "ann", "wrong horse").await.expect_err("refused");
    assert_eq!(mails.answered("marker", 0).await.len(), 0);
    login_on(server, "ann", "").await;
    let notice = to("ann", mails.answered("marker-2", 2).await).remove(0);
    for shown in [
        "2026-11-21 00:0",
        "from the IP address 127.0.0.1",
        "calls itself: tonic/",
    ] {
        assert!(notice.text.contains(shown), "{}", notice.text);
    }
    // A device token of another user does not count.
    login_on(server, "ann", &bob.device_token).await;
    assert_eq!(to("ann", mails.answered("marker-3", 4).await).len(), 2);
}

#[on_both_backends]
async fn the_first_login_is_not_announced(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let root = server.superuser().await;
    // The superuser registers and then logs in from elsewhere.
    assert!(subjects(&mails.mails(1).await)[0].starts_with("New login"));
    create(server, &root, "ann", &[]).await;
    first_login(server, "ann", TEMPORARY, PASSWORD)
        .await
        .expect("logged in");
    let to_ann = to("ann", mails.answered("marker", 2).await);
    assert_eq!(to_ann.len(), 1);
    assert!(subjects(&to_ann)[0].contains("has changed"), "{to_ann:?}");
}

#[on_both_backends]
async fn a_token_of_somebody_else_does_not_change_what_a_notice_says(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    server.register("ann").await;
    let foreign = server.register("eve").await.tokens.expect("tokens").access_token;
    let answer = server
        .auth()
        .login(with_token(credentials("ann", PASSWORD), &foreign))
        .await;
    answer.expect("logged in");
    let by_code = ResetPasswordRequest {
        identifier: "ann".to_owned(),
        code: mails.request("ann", 1).await.code(),
        new_password: NEW.to_owned(),
        new_password_confirmation: NEW.to_owned(),
        ..ResetPasswordRequest::default()
    };
    let answer = server.auth().reset_password(with_token(by_code, &foreign)).await;
    answer.expect("reset");
    let mut notices = mails.to("ann", 3).await;
    notices.retain(|mail| !mail.text.contains("#reset-password?"));
    assert_eq!(notices.len(), 2);
    for notice in notices {
        assert!(notice.text.contains("IP address 127.0.0.1"), "{}", notice.text);
        assert!(!notice.text.contains("administrator"), "{}", notice.text);
    }
}

#[on_both_backends]
async fn a_change_of_the_login_is_announced(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let ann = server.register("ann").await;
    let token = ann.tokens.expect("tokens").access_token;
    let same = UpdateMeRequest {
        user: Some(User {
            login: "ann".to_owned(),
            ..User::default()
        }),
        ..UpdateMeRequest::default()
    };
    let update = with_password(User {
        login: "ann.new".to_owned(),
        ..User::default()
    });
    for request in [same, update] {
        let updated = server.account().update_me(with_token(request, &token)).await;
        updated.expect("updated");
    }
    let notice = &mails.mails(1).await[0];
    assert_eq!(notice.recipient(), "ann@example.test");
    let shown = "changed from ann to ann.new on 2026-11-21";
    assert!(notice.text.contains(shown), "{}", notice.text);
    assert!(notice.text.contains("from the IP address 127.0.0.1"), "{}", notice.text);

    // An administrator is called one, and their address is not shown.
    let root = server.superuser().await;
    let user_id = ann.user.expect("a user").user_id;
    let update = UpdateUserRequest {
        user_id: user_id.clone(),
        user: Some(User {
            login: "ann.third".to_owned(),
            ..User::default()
        }),
        ..UpdateUserRequest::default()
    };
    let updated = users(server).update_user(with_token(update, &root)).await;
    updated.expect("updated");
    let notices = to("ann", mails.answered("marker", 3).await);
    assert_eq!(notices.len(), 2);
    let text = &notices[1].text;
    assert!(
        text.contains("from ann.new to ann.third") && !text.contains("from the IP address"),
        "{text}"
    );
    set_password(server, &root, &user_id).await.expect("set");
    let notices = to("ann", mails.answered("marker-2", 5).await);
    for (notice, is_by_administrator) in notices.iter().zip([false, true, true]) {
        let says_so = notice.text.contains("An administrator of");
        assert_eq!(says_so, is_by_administrator, "{}", notice.text);
    }
    let text = &notices[2].text;
    assert!(
        text.contains("set a temporary password") && !text.contains("IP address"),
        "{text}"
    );
}

#[on_both_backends]
async fn a_reused_refresh_token_is_announced_once(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let mut replica = mails.replica().await;
    let old = server.register("ann").await.tokens.expect("tokens").refresh_token;
    let new = server.rotate(&old, "").await.expect("rotated").refresh_token;
    refresh(server, &new).await.expect("refreshed");
    assert_eq!(
        refusal(server.rotate(&old, "").await),
        is(Code::Unauthenticated, "REFRESH_TOKEN_REUSED")
    );
    for _ in 0..100 {
        server.rotate(&old, "").await.expect_err("refused");
        rotate(&mut replica, &old, "").await.expect_err("refused");
        refresh(server, &old).await.expect_err("refused");
    }
    let notices = mails.answered("marker", 1).await;
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].recipient(), "ann@example.test");
    assert!(
        notices[0].text.contains("outdated copy of a login"),
        "{}",
        notices[0].text
    );
}

#[on_both_backends]
async fn racing_reuses_of_one_token_are_announced_once(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let (first, second) = (server.auth(), mails.replica().await);
    let old = server.register("ann").await.tokens.expect("tokens").refresh_token;
    let new = server.rotate(&old, "").await.expect("rotated").refresh_token;
    refresh(server, &new).await.expect("refreshed");
    let racers: Vec<_> = (0..40)
        .map(|racer| {
            let mut client = if racer % 2 == 0 { first.clone() } else { second.clone() };
            let old = old.clone();
            tokio::spawn(async move { rotate(&mut client, &old, "").await })
        })
        .collect();
    let mut reuses = 0;
    for racer in racers {
        let (_, reason) = refusal(racer.await.expect("joined"));
        reuses += usize::from(reason == "REFRESH_TOKEN_REUSED");
    }
    assert_eq!(reuses, 1);
    assert_eq!(mails.answered("marker", 1).await.len(), 1);
}

#[on_both_backends]
async fn a_flood_of_one_kind_does_not_suppress_the_others(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    for _ in 0..8 {
        login_on(server, "ann", "").await;
    }
    assert_eq!(mails.answered("marker", 5).await.len(), 5);
    let changed = server
        .account()
        .change_password(with_token(change(PASSWORD, NEW), &token))
        .await;
    changed.expect("changed");
    let subjects = subjects(&mails.answered("marker-2", 7).await);
    let changes = subjects.iter().filter(|subject| subject.contains("has changed"));
    assert_eq!(changes.count(), 1, "{subjects:?}");
}

#[on_both_backends]
async fn notices_to_an_address_that_was_never_verified_share_one_limit(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let server = &mails.server;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    for _ in 0..3 {
        login_on(server, "ann", "").await;
    }
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
    assert_eq!(mails.answered("marker", 4).await.len(), 4);
    // The fifth is the last, whatever it is about.
    let changed = server
        .account()
        .change_password(with_token(change(NEW, PASSWORD), &token))
        .await;
    changed.expect("changed");
    login_on(server, "ann", "").await;
    assert_eq!(to("ann", mails.answered("marker-2", 6).await).len(), 5);
}
