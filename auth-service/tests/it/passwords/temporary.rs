//! Passwords that administrators set, and their expiry.

use std::time::Duration;

use testing::{TestDatabase, on_both_backends, rpc::with_token};
use tonic::Code;

use crate::{
    support::{
        PASSWORD, START, Server,
        callers::{is, refusal},
        count, execute, settings,
    },
    users::calls::{NEW, TEMPORARY, create, deactivate, first_login, login, new_user, reactivate, set_password, users},
};

const DAY: Duration = Duration::from_hours(24);

#[on_both_backends]
async fn a_temporary_password_expires_after_a_week(database: TestDatabase) {
    let server = Server::start(database).await;
    let root = server.superuser().await;
    let request = with_token(new_user("ann", &[]), &root);
    let created = users(&server).create_user(request).await.expect("created").into_inner();
    assert_eq!(created.password_expire_time, Some(START.plus(7 * DAY).into()));
    let ann = created.user.expect("a user").user_id;
    create(&server, &root, "bob", &[]).await;
    server.clock.advance(7 * DAY);
    first_login(&server, "bob", TEMPORARY, NEW).await.expect("logged in");
    server.clock.advance(Duration::from_secs(31));
    // Only a caller who knows the password is told.
    assert_eq!(
        refusal(first_login(&server, "ann", "wrong horse", NEW).await),
        is(Code::Unauthenticated, "CREDENTIALS_INVALID")
    );
    for _ in 0..20 {
        assert_eq!(
            refusal(first_login(&server, "ann", TEMPORARY, NEW).await),
            is(Code::FailedPrecondition, "PASSWORD_EXPIRED")
        );
    }
    assert_eq!(
        refusal(login(&server, "ann", TEMPORARY).await),
        is(Code::FailedPrecondition, "PASSWORD_EXPIRED")
    );
    let audited = "audit_events WHERE action = 'session.login' AND reason = 'PASSWORD_EXPIRED'";
    assert_eq!(count(server.database.db(), audited).await, 21);
    let root = server.login("root").await.access_token;
    set_password(&server, &root, &ann).await.expect("set");
    server.clock.advance(6 * DAY);
    assert_eq!(
        refusal(login(&server, "ann", TEMPORARY).await),
        is(Code::FailedPrecondition, "PASSWORD_CHANGE_REQUIRED")
    );
    first_login(&server, "ann", TEMPORARY, NEW).await.expect("logged in");
    // A password of the user's own does not expire.
    server.clock.advance(100 * DAY);
    login(&server, "ann", NEW).await.expect("logged in");
}

#[on_both_backends]
async fn a_setting_says_how_long_a_temporary_password_is_valid(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&["--temporary-password-seconds", "3600"])).await;
    let root = server.superuser().await;
    create(&server, &root, "ann", &[]).await;
    server.clock.advance(Duration::from_secs(3631));
    assert_eq!(
        refusal(first_login(&server, "ann", TEMPORARY, NEW).await),
        is(Code::FailedPrecondition, "PASSWORD_EXPIRED")
    );
}

#[on_both_backends]
async fn the_password_of_the_first_administrator_does_not_expire(database: TestDatabase) {
    let server = Server::start_with(database, &settings(&["--bootstrap-admin-password", TEMPORARY])).await;
    server.clock.advance(365 * DAY);
    first_login(&server, "admin", TEMPORARY, PASSWORD)
        .await
        .expect("logged in");
}

#[on_both_backends]
async fn an_older_version_that_sets_a_password_starts_its_time(database: TestDatabase) {
    let server = Server::start(database).await;
    let root = server.superuser().await;
    create(&server, &root, "ann", &[]).await;
    server.clock.advance(8 * DAY);
    let refused = first_login(&server, "ann", TEMPORARY, NEW).await;
    assert_eq!(refusal(refused), is(Code::FailedPrecondition, "PASSWORD_EXPIRED"));
    // It logs the user out everywhere, and leaves alone the columns that it does not know.
    let now = START.plus(8 * DAY);
    let now = match server.database.backend() {
        db::Backend::Sqlite => now.as_micros().to_string(),
        db::Backend::Postgres => format!("to_timestamp({})", now.as_seconds()),
    };
    execute(
        &server,
        &format!("UPDATE users SET force_logout_time = {now} WHERE login = 'ann'"),
    )
    .await;
    first_login(&server, "ann", TEMPORARY, NEW).await.expect("logged in");
}

#[on_both_backends]
async fn a_logout_everywhere_does_not_start_the_time_of_a_temporary_password_anew(database: TestDatabase) {
    let server = Server::start(database).await;
    let root = server.superuser().await;
    let ann = create(&server, &root, "ann", &[]).await;
    let bob = server.register("bob").await.user.expect("a user").user_id;
    set_password(&server, &root, &bob).await.expect("set");
    server.clock.advance(4 * DAY);
    let root = server.login("root").await.access_token;
    for user_id in [&ann, &bob] {
        let revoke = proto::auth::v1::RevokeUserTokensRequest {
            user_id: user_id.clone(),
        };
        let revoked = users(&server).revoke_user_tokens(with_token(revoke, &root)).await;
        revoked.expect("revoked");
        deactivate(&server, &root, user_id).await.expect("deactivated");
        reactivate(&server, &root, user_id).await.expect("reactivated");
    }
    server.clock.advance(3 * DAY + Duration::from_secs(31));
    for login in ["ann", "bob"] {
        let refused = first_login(&server, login, TEMPORARY, NEW).await;
        assert_eq!(refusal(refused), is(Code::FailedPrecondition, "PASSWORD_EXPIRED"));
    }
    // A new temporary password does.
    let root = server.login("root").await.access_token;
    set_password(&server, &root, &bob).await.expect("set");
    server.clock.advance(6 * DAY);
    first_login(&server, "bob", TEMPORARY, NEW).await.expect("logged in");
}
