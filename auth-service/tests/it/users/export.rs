//! Users export all that is known of them.

use std::{collections::BTreeSet, time::Duration};

use proto::auth::v1::{AuditEvent, ExportMeRequest, ExportMeResponse, ExportedSession, UpdateUserRequest, User};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, reason, retry_after, with_token},
};
use tonic::{Code, Status};

use super::calls::{change, users};
use crate::support::{
    PASSWORD, Server,
    callers::{eventually, is, refusal, server_with_root},
    count, credentials, execute, settings,
};

async fn export(server: &Server, token: &str, page_size: i32, page_token: &str) -> Result<ExportMeResponse, Status> {
    let request = ExportMeRequest {
        page_size,
        page_token: page_token.to_owned(),
    };
    Ok(server
        .account()
        .export_me(with_token(request, token))
        .await?
        .into_inner())
}

/// Exports everything, page by page.
async fn all(
    server: &Server,
    token: &str,
    page_size: i32,
) -> (ExportMeResponse, Vec<ExportedSession>, Vec<AuditEvent>) {
    let first = export(server, token, page_size, "").await.expect("a page");
    let (mut sessions, mut events) = (first.sessions.clone(), first.audit_events.clone());
    let mut next = first.next_page_token.clone();
    while !next.is_empty() {
        let page = export(server, token, page_size, &next).await.expect("a page");
        assert!(page.user.is_none() && page.roles.is_empty() && page.limit_counts.is_empty());
        assert!(page.sessions.len() + page.audit_events.len() <= usize::try_from(page_size).expect("a size") + 1);
        sessions.extend(page.sessions);
        events.extend(page.audit_events);
        next = page.next_page_token;
    }
    (first, sessions, events)
}

#[on_both_backends]
async fn a_user_exports_all_that_is_known(database: TestDatabase) {
    // Mails wait, because nothing listens there.
    let arguments = ["--smtp-url", "smtp://127.0.0.1:1", "--mail-from", "game@example.com"];
    let server = Server::start_with(database, &settings(&arguments)).await;
    let ann = server.register("ann").await;
    server.register("bob").await;
    let token = ann.tokens.expect("tokens").access_token;
    server.login("ann").await;
    let wrong = server.auth().login(credentials("ann", "wrong horse")).await;
    wrong.expect_err("refused");
    let request = proto::auth::v1::RequestPasswordResetRequest {
        identifier: "ann".to_owned(),
        ..proto::auth::v1::RequestPasswordResetRequest::default()
    };
    server.auth().request_password_reset(request).await.expect("asked");
    eventually(async || (count(server.database.db(), "account_codes").await == 3).then_some(())).await;

    let (first, sessions, events) = all(&server, &token, 40).await;
    let (exported, user) = (first.user.as_ref().expect("a user"), ann.user.expect("a user"));
    assert_eq!((&exported.user_id, &exported.email), (&user.user_id, &user.email));
    assert_eq!(first.roles, ["player"]);
    let purposes: Vec<&str> = first.codes.iter().map(|code| code.purpose.as_str()).collect();
    assert_eq!(purposes, ["email_verification", "password_reset"]);
    let kinds: BTreeSet<&str> = first.waiting_mails.iter().map(|mail| mail.kind.as_str()).collect();
    assert_eq!(
        kinds,
        BTreeSet::from(["device_login", "email_verification", "password_reset"])
    );
    let limits: BTreeSet<&str> = first.limit_counts.iter().map(|count| count.limit.as_str()).collect();
    assert_eq!(
        limits,
        BTreeSet::from(["failed_logins.login", "mails.code", "mails.notice"])
    );
    assert_eq!(sessions.len(), 2);
    assert!(sessions.iter().all(|session| session.device_id.len() == 36));
    assert_eq!(sessions.iter().filter(|session| is_current(session)).count(), 1);
    let actions: BTreeSet<&str> = events.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(
        actions,
        BTreeSet::from([
            "session.login",
            "user.export",
            "user.register",
            "user.request_password_reset"
        ])
    );
    let text = format!("{first:?} {sessions:?} {events:?}");
    for secret in ["$argon2", "seed", "bob"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[on_both_backends]
async fn counters_that_a_login_has_cleared_are_left_out(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let wrong = server.auth().login(credentials("ann", "wrong horse")).await;
    wrong.expect_err("refused");
    let counted = async || {
        let counts = export(&server, &token, 0, "").await.expect("a page").limit_counts;
        counts
            .into_iter()
            .map(|count| (count.limit, count.count))
            .collect::<Vec<_>>()
    };
    assert_eq!(counted().await, [("failed_logins.login".to_owned(), 1)]);
    server.login("ann").await;
    assert!(counted().await.is_empty());
}

fn is_current(session: &ExportedSession) -> bool {
    session.session.as_ref().is_some_and(|session| session.is_current)
}

#[on_both_backends]
async fn the_pages_of_an_export_hold_everything_once(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    for _ in 0..5 {
        server.login("ann").await;
    }
    for page_size in [1, 2, 3, 5, 6, 7, 100] {
        let before = count(server.database.db(), "audit_events WHERE subject_user_id IS NOT NULL").await;
        let (_, sessions, events) = all(&server, &token, page_size).await;
        let ids: BTreeSet<_> = sessions
            .iter()
            .filter_map(|each| each.session.as_ref())
            .map(|each| &each.session_id)
            .collect();
        assert_eq!((sessions.len(), ids.len()), (6, 6), "{page_size}");
        let ids: BTreeSet<_> = events.iter().map(|event| &event.event_id).collect();
        let expected = usize::try_from(before).expect("a count") + 1;
        assert_eq!((events.len(), ids.len()), (expected, expected), "{page_size}");
        assert!(events.is_sorted_by_key(|event| {
            let time = event.event_time.expect("a time");
            std::cmp::Reverse((time.seconds, time.nanos))
        }));
    }
    let bob = server.register("bob").await.tokens.expect("tokens").access_token;
    let page = export(&server, &token, 1, "").await.expect("a page").next_page_token;
    for (token, page_size, page_token, field) in [
        (&token, -1, "", "page_size"),
        (&token, 1, "x", "page_token"),
        (&bob, 1, page.as_str(), "page_token"),
    ] {
        let refused = export(&server, token, page_size, page_token)
            .await
            .expect_err("refused");
        assert_eq!(bad_fields(&refused), [field]);
    }
}

#[on_both_backends]
async fn an_export_names_nobody_else(database: TestDatabase) {
    let server = Server::start(database).await;
    let root = server.superuser().await;
    let ann = server.register("ann").await;
    let update = UpdateUserRequest {
        user_id: ann.user.expect("a user").user_id,
        user: Some(User {
            first_name: "Ann".to_owned(),
            ..User::default()
        }),
        ..UpdateUserRequest::default()
    };
    let updated = users(&server).update_user(with_token(update, &root)).await;
    updated.expect("updated");
    let token = ann.tokens.expect("tokens").access_token;
    let (_, _, events) = all(&server, &token, 40).await;
    let update = events
        .iter()
        .find(|event| event.action == "user.update")
        .expect("an event");
    assert_eq!(update.details["fields"], "first_name");
    assert_eq!(update.subject_login, "ann");
    for nothing in [
        &update.actor_user_id,
        &update.actor_login,
        &update.ip_address,
        &update.user_agent,
        &update.request_id,
    ] {
        assert_eq!(nothing, "");
    }
    // The user's own events have it all.
    let own = events
        .iter()
        .find(|event| event.action == "user.export")
        .expect("an event");
    assert_eq!(
        (own.actor_login.as_str(), own.ip_address.as_str()),
        ("ann", "127.0.0.1")
    );
}

#[on_both_backends]
async fn exports_are_limited_by_user(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let next = export(&server, &token, 1, "").await.expect("a page").next_page_token;
    for _ in 1..20 {
        export(&server, &token, 1, "").await.expect("a page");
    }
    let refused = export(&server, &token, 1, "").await.expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS")
    );
    assert!(retry_after(&refused).is_some_and(|wait| wait <= Duration::from_mins(1)));
    // An export that has begun goes on, and others are not affected.
    export(&server, &token, 1, &next).await.expect("a page");
    let bob = server.register("bob").await.tokens.expect("tokens").access_token;
    export(&server, &bob, 1, "").await.expect("a page");
    let pages = count(server.database.db(), "audit_events WHERE action = 'user.export'").await;
    assert_eq!(pages, 21);
}

#[on_both_backends]
async fn an_export_does_not_tell_who_has_the_address_that_a_user_has_lost(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("eve").await.tokens.expect("tokens").access_token;
    server.register("strasse").await;
    // An older version tells these addresses apart.
    let other_spelling = "UPDATE users SET email = 'straße@example.test', email_folded = 'straße@example.test', \
        key_time = NULL WHERE login = 'eve'";
    execute(&server, other_spelling).await;
    let (running, _) = server.replica().await;
    running.stop().await.expect("stopped");
    let (first, _, events) = all(&server, &token, 40).await;
    assert!(first.email_is_taken);
    let lost = events.iter().find(|event| event.action == "user.email_taken");
    let details = &lost.expect("an event").details;
    assert!(details.is_empty(), "{details:?}");
}

#[on_both_backends]
async fn only_a_user_with_a_live_session_exports(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    assert_eq!(
        refusal(export(&server, &root.token, 0, "").await),
        is(Code::NotFound, "USER_NOT_FOUND")
    );
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let page = export(&server, &token, 1, "").await.expect("a page").next_page_token;
    let changed = change(PASSWORD, "another horse");
    let changed = server.account().change_password(with_token(changed, &token)).await;
    let new = changed
        .expect("changed")
        .into_inner()
        .tokens
        .expect("tokens")
        .access_token;
    for page_token in ["", &page] {
        export(&server, &token, 1, page_token).await.expect_err("refused");
        export(&server, &new, 1, page_token).await.expect("a page");
    }
}

#[on_both_backends]
async fn an_export_tells_of_second_factors_and_not_of_their_secrets(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let app = crate::factors::App::added(&server, &token).await;
    let secret = crate::factors::create(&server, &token).await;
    secret.expect_err("an app beside the first needs both factors");
    let wrong = crate::factors::reauthentication(&app.wrong_code(&server));
    crate::factors::reauthenticate(&server, &token, wrong)
        .await
        .expect_err("refused");
    let (first, _, events) = all(&server, &token, 40).await;
    let [factor] = &first.second_factors[..] else {
        panic!("one factor: {first:?}");
    };
    assert_eq!(
        (&factor.factor_id, factor.display_name.as_str()),
        (&app.factor_id, "phone")
    );
    assert!(factor.confirm_time.is_some());
    assert_eq!(first.recovery_code_times.len(), 10);
    let limits: Vec<&str> = first.limit_counts.iter().map(|count| count.limit.as_str()).collect();
    assert_eq!(limits, ["failed_logins.second_factor_current"]);
    let actions: BTreeSet<&str> = events.iter().map(|event| event.action.as_str()).collect();
    for action in ["factor.create", "factor.confirm", "session.reauthenticate"] {
        assert!(actions.contains(action), "{action}: {actions:?}");
    }
    let text = format!("{first:?} {events:?}");
    for secret in app.recovery_codes.iter().chain([&app.secret]) {
        assert!(!text.contains(secret), "{text}");
    }
}

#[on_both_backends]
async fn a_deleted_user_leaves_no_second_factor(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    crate::factors::App::added(&server, &token).await;
    crate::factors::challenge(&server, "ann").await;
    let request = proto::auth::v1::DeleteMeRequest {
        current_password: PASSWORD.to_owned(),
        ..proto::auth::v1::DeleteMeRequest::default()
    };
    let deleted = server.account().delete_me(with_token(request, &token)).await;
    deleted.expect("deleted");
    let left = [
        "totp_factors",
        "recovery_codes",
        "login_challenges",
        "users WHERE has_second_factor",
    ];
    for table in left {
        assert_eq!(count(server.database.db(), table).await, 0, "{table}");
    }
}
