//! Logout, by refresh token and by access token.

use proto::auth::v1::{GetMeRequest, LogoutRequest};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{reason, with_token},
};
use tonic::Code;

use crate::support::Server;

fn by_refresh_token(token: &str) -> LogoutRequest {
    LogoutRequest {
        refresh_token: token.to_owned(),
    }
}

#[on_both_backends]
async fn logout_works_for_a_session_that_the_database_has_lost(database: TestDatabase) {
    use diesel_async::SimpleAsyncConnection as _;
    let server = Server::start(database).await;
    let (ann, bob) = (
        server.register("ann").await.tokens.expect("tokens"),
        server.register("bob").await.tokens.expect("tokens"),
    );
    let lost: db::Result<()> = db::write_tx!(server.database.db(), |tx| db::query!(tx, |c| c
        .batch_execute("DELETE FROM sessions")
        .await));
    lost.expect("deleted");
    server
        .auth()
        .logout(with_token(LogoutRequest::default(), &ann.access_token))
        .await
        .expect("logged out");
    server
        .auth()
        .logout(by_refresh_token(&bob.refresh_token))
        .await
        .expect("logged out");
    for token in [&ann.access_token, &bob.access_token] {
        let refused = server
            .account()
            .get_me(with_token(GetMeRequest {}, token))
            .await
            .expect_err("refused");
        assert_eq!(reason(&refused), "TOKEN_REVOKED");
    }
    // A second logout succeeds, and publishes no second event.
    let events = crate::support::count(server.database.db(), "access_feed").await;
    server
        .auth()
        .logout(by_refresh_token(&bob.refresh_token))
        .await
        .expect("logged out");
    assert_eq!(crate::support::count(server.database.db(), "access_feed").await, events);
}

#[on_both_backends]
async fn logout_by_refresh_token_ends_only_its_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let here = server.register("ann").await.tokens.expect("tokens");
    let there = server.login("ann").await;
    for _ in 0..2 {
        // The second logout succeeds as well, because its goal is already reached.
        server
            .auth()
            .logout(by_refresh_token(&here.refresh_token))
            .await
            .expect("logged out");
    }
    let ended = server.rotate(&here.refresh_token, "").await.expect_err("ended");
    assert_eq!(reason(&ended), "SESSION_ENDED");
    server.rotate(&there.refresh_token, "").await.expect("lives");
}

#[on_both_backends]
async fn logout_by_access_token_ends_its_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    for _ in 0..2 {
        server
            .auth()
            .logout(with_token(LogoutRequest::default(), &pair.access_token))
            .await
            .expect("logged out");
    }
    let ended = server.rotate(&pair.refresh_token, "").await.expect_err("ended");
    assert_eq!(reason(&ended), "SESSION_ENDED");
}

#[on_both_backends]
async fn logout_without_a_valid_token_is_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let refused = server
        .auth()
        .logout(LogoutRequest::default())
        .await
        .expect_err("no token");
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::Unauthenticated, "TOKEN_MISSING".to_owned())
    );
    let refused = server
        .auth()
        .logout(with_token(LogoutRequest::default(), "x.y.z"))
        .await
        .expect_err("a bad token");
    assert_eq!(reason(&refused), "TOKEN_INVALID");
}

#[on_both_backends]
async fn logout_with_an_old_refresh_token_is_a_reuse(database: TestDatabase) {
    let server = Server::start(database).await;
    let first = server.register("ann").await.tokens.expect("tokens");
    let second = server.rotate(&first.refresh_token, "").await.expect("rotated");
    let third = server.rotate(&second.refresh_token, "").await.expect("rotated");
    let reused = server
        .auth()
        .logout(by_refresh_token(&first.refresh_token))
        .await
        .expect_err("old");
    assert_eq!(reason(&reused), "REFRESH_TOKEN_REUSED");
    let ended = server.rotate(&third.refresh_token, "").await.expect_err("ended");
    assert_eq!(reason(&ended), "SESSION_ENDED");
}
