//! Promotion of a standby that lacks the last commits. Revocations in those commits stay in force:
//! processes that saw them keep enforcing them, and write them to the new primary.

use db::{query, write_tx};
use diesel_async::SimpleAsyncConnection as _;
use proto::auth::v1::{
    GetJwksRequest, GetMeRequest, LogoutRequest, RefreshAccessTokenRequest, RetireSigningKeyRequest,
    RevokeAllTokensRequest, TokenPair,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{reason, with_token},
};

use crate::support::{Server, callers::eventually, count, rotate};

/// Tables that the simulated standby has a copy of.
const TABLES: [&str; 6] = [
    "users",
    "sessions",
    "access_feed",
    "feed_head",
    "signing_keys",
    "audit_events",
];

async fn run(database: &TestDatabase, sql: &str) {
    let done: db::Result<()> = write_tx!(database.db(), |tx| query!(tx, |c| c.batch_execute(sql).await));
    done.expect("run");
}

/// Copies the tables. The copies are the state that the standby has received.
async fn replicate(database: &TestDatabase) {
    let copies = TABLES.map(|table| format!("CREATE TABLE standby_{table} AS SELECT * FROM {table};"));
    run(database, &copies.concat()).await;
}

/// Replaces the content of the database with that of the standby, in one transaction.
async fn promote(database: &TestDatabase) {
    promote_and(database, "").await;
}

/// Promotes the standby, and runs `happened` in the same transaction: SQL of changes that were made
/// on the new primary before any replica reads it.
async fn promote_and(database: &TestDatabase, happened: &str) {
    let whole = ["access_feed", "signing_keys", "audit_events", "feed_head"];
    let mut sql: String = whole.map(|table| format!("DELETE FROM {table};")).concat();
    sql += &whole
        .map(|table| format!("INSERT INTO {table} SELECT * FROM standby_{table};"))
        .concat();
    sql += "DELETE FROM sessions; INSERT INTO sessions SELECT * FROM standby_sessions;
        UPDATE users SET
            token_version = (SELECT s.token_version FROM standby_users s WHERE s.id = users.id),
            force_logout_time = (SELECT s.force_logout_time FROM standby_users s WHERE s.id = users.id);";
    sql += happened;
    run(database, &sql).await;
}

async fn me(server: &Server, token: &str) -> Result<(), String> {
    let answer = server.account().get_me(with_token(GetMeRequest {}, token)).await;
    answer.map(drop).map_err(|status| reason(&status))
}

async fn refreshed(server: &Server, pair: &TokenPair) -> Result<String, String> {
    let request = RefreshAccessTokenRequest {
        refresh_token: pair.refresh_token.clone(),
        ..RefreshAccessTokenRequest::default()
    };
    let answer = server.auth().refresh_access_token(request).await;
    answer
        .map(|answer| answer.into_inner().access_token)
        .map_err(|status| reason(&status))
}

#[on_both_backends]
async fn logouts_missing_on_a_promoted_standby_are_written_again(database: TestDatabase) {
    let server = Server::start(database).await;
    let out = server.register("ann").await.tokens.expect("tokens");
    let everywhere = server.register("bob").await.tokens.expect("tokens");
    let other = server.register("eve").await.tokens.expect("tokens");
    replicate(&server.database).await;
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: out.refresh_token.clone(),
        })
        .await
        .expect("logged out");
    // Revoke twice, so that the standby's token version is two behind.
    server
        .auth()
        .revoke_all_tokens(with_token(RevokeAllTokensRequest {}, &everywhere.access_token))
        .await
        .expect("revoked");
    let again = server.login("bob").await;
    server
        .auth()
        .revoke_all_tokens(with_token(RevokeAllTokensRequest {}, &again.access_token))
        .await
        .expect("revoked");
    let refused = [
        (&out.access_token, "TOKEN_REVOKED"),
        (&everywhere.access_token, "TOKEN_STALE"),
        (&again.access_token, "TOKEN_STALE"),
    ];
    for (token, reason) in refused {
        assert_eq!(me(&server, token).await, Err(reason.to_owned()));
    }

    promote(&server.database).await;
    let live = "sessions WHERE end_time IS NULL";
    let written = eventually(|| async {
        // The tokens are refused the whole time.
        for (token, reason) in refused {
            assert_eq!(me(&server, token).await, Err(reason.to_owned()));
        }
        (count(server.database.db(), live).await == 1).then_some(())
    });
    written.await;
    eventually(|| async {
        let revoked = "access_feed WHERE kind IN ('session_revoked', 'user_tokens_revoked')";
        (count(server.database.db(), revoked).await == 2).then_some(())
    })
    .await;
    for pair in [&out, &everywhere] {
        assert_eq!(refreshed(&server, pair).await, Err("SESSION_ENDED".to_owned()));
    }
    // A replica that starts now never saw the revocations, and refuses the sessions as well.
    let (_running, replica) = server.replica().await;
    for pair in [&out, &everywhere] {
        let refused = rotate(&mut replica.clone(), &pair.refresh_token, "")
            .await
            .expect_err("ended");
        assert_eq!(reason(&refused), "SESSION_ENDED");
    }
    assert_eq!(
        count(server.database.db(), "users WHERE login = 'bob' AND token_version >= 3").await,
        1
    );
    // Bob can log in again, and no other user was logged out.
    server.clock.advance(std::time::Duration::from_secs(30));
    let back = server.login("bob").await;
    eventually(|| async { me(&server, &back.access_token).await.ok() }).await;
    assert_eq!(me(&server, &other.access_token).await, Ok(()));
    refreshed(&server, &other).await.expect("eve's session lives");
}

#[on_both_backends]
async fn a_promoted_standby_is_detected_even_at_the_same_sequence_number(database: TestDatabase) {
    let server = Server::start(database).await;
    let out = server.register("ann").await.tokens.expect("tokens");
    let later = server.register("bob").await.tokens.expect("tokens");
    replicate(&server.database).await;
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: out.refresh_token.clone(),
        })
        .await
        .expect("logged out");
    assert_eq!(me(&server, &out.access_token).await, Err("TOKEN_REVOKED".to_owned()));

    // In the new history, another event takes the sequence number of the logout before any replica
    // reads the feed.
    let overtake = "
        UPDATE access_feed SET sequence = (SELECT MAX(sequence) + 1 FROM standby_access_feed)
            WHERE sequence = (SELECT MAX(sequence) FROM standby_access_feed);
        UPDATE feed_head SET sequence = sequence + 1;";
    promote_and(&server.database, overtake).await;
    eventually(|| async {
        assert_eq!(me(&server, &out.access_token).await, Err("TOKEN_REVOKED".to_owned()));
        (refreshed(&server, &out).await == Err("SESSION_ENDED".to_owned())).then_some(())
    })
    .await;
    refreshed(&server, &later).await.expect("bob's session lives");
    // Later revocations take effect as usual.
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: later.refresh_token.clone(),
        })
        .await
        .expect("logged out");
    assert_eq!(me(&server, &later.access_token).await, Err("TOKEN_REVOKED".to_owned()));
}

#[on_both_backends]
async fn a_key_withdrawal_missing_on_a_promoted_standby_is_repeated(database: TestDatabase) {
    let server = Server::start(database).await;
    let admin = server.superuser().await;
    let leaked = server.register("ann").await.tokens.expect("tokens");
    let kids = async || {
        let keys = server
            .keys()
            .get_jwks(GetJwksRequest {})
            .await
            .expect("keys")
            .into_inner()
            .keys;
        keys.into_iter().map(|key| key.kid).collect::<Vec<_>>()
    };
    let kid = kids().await.remove(0);
    replicate(&server.database).await;
    let retire = RetireSigningKeyRequest { kid: kid.clone() };
    server
        .keys()
        .retire_signing_key(with_token(retire, &admin))
        .await
        .expect("retired");
    eventually(|| async { me(&server, &leaked.access_token).await.err() }).await;

    promote(&server.database).await;
    eventually(|| async {
        // While there is no valid key, every call is refused as STARTING.
        let refused = me(&server, &leaked.access_token).await.expect_err("refused");
        assert!(["TOKEN_INVALID", "STARTING"].contains(&refused.as_str()), "{refused}");
        let sql = format!("signing_keys WHERE kid = '{kid}'");
        (count(server.database.db(), &sql).await == 0).then_some(())
    })
    .await;
    assert_eq!(
        count(server.database.db(), "signing_keys WHERE state = 'active'").await,
        1
    );
    let fresh = eventually(|| async {
        let token = refreshed(&server, &leaked).await.expect("the session lives");
        me(&server, &token).await.is_ok().then_some(token)
    });
    fresh.await;
    assert!(!kids().await.contains(&kid));
}
