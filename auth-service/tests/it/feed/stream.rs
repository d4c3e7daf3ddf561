//! The access feed as its consumers read it: snapshots, changes, and how a stream ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use auth_service::config::AuthSettings;
use db::{query, write_tx};
use diesel_async::SimpleAsyncConnection as _;
use proto::auth::v1::{
    AccessEvent, DeleteServiceAccountRequest, IssueServiceTokenRequest, LogoutRequest, SetRolePermissionsRequest,
    UpdateMeRequest, User, WatchRequest, WatchResponse, access_event::Event,
    access_feed_service_client::AccessFeedServiceClient, auth_service_client::AuthServiceClient,
    rbac_service_client::RbacServiceClient, service_account_service_client::ServiceAccountServiceClient,
};
use tempfile::NamedTempFile;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{channel, reason, retry_after, with_token},
};
use tonic::{Code, Status, Streaming};

use crate::support::{PASSWORD, Server, mask, settings};

/// Timeout that only a failing test reaches.
const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const SECRET: &str = "a secret of at least thirty-two characters";

/// Starts a server with the service account `game-service`.
async fn server(database: TestDatabase) -> Server {
    let (_file, settings) = game_service_account();
    Server::start_with(database, &settings).await
}

/// Returns settings with the service account `game-service`, and the file that defines it. Keep the
/// file until the server has started.
fn game_service_account() -> (NamedTempFile, AuthSettings) {
    game_service_account_with(&[])
}

/// Returns the same settings with more command-line options.
fn game_service_account_with(more: &[&str]) -> (NamedTempFile, AuthSettings) {
    let file = NamedTempFile::new().expect("a temporary file");
    let accounts = format!(r#"[{{"client_id": "game-service", "secret": "{SECRET}"}}]"#);
    std::fs::write(file.path(), accounts).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let settings = settings(&[&["--service-accounts-file", path], more].concat());
    (file, settings)
}

async fn service_token(client: &mut AuthServiceClient<tonic::transport::Channel>) -> String {
    let request = IssueServiceTokenRequest {
        client_id: "game-service".to_owned(),
        client_secret: SECRET.to_owned(),
        ..IssueServiceTokenRequest::default()
    };
    client
        .issue_service_token(request)
        .await
        .expect("a token")
        .into_inner()
        .access_token
}

pub(crate) async fn watch(at: std::net::SocketAddr, epoch: &str, after_sequence: i64) -> Streaming<WatchResponse> {
    let token = service_token(&mut AuthServiceClient::new(channel(at))).await;
    watch_with(at, &token, epoch, after_sequence).await
}

async fn watch_with(
    at: std::net::SocketAddr,
    token: &str,
    epoch: &str,
    after_sequence: i64,
) -> Streaming<WatchResponse> {
    let request = WatchRequest {
        epoch: epoch.to_owned(),
        after_sequence,
    };
    let mut client = AccessFeedServiceClient::new(channel(at));
    client
        .watch(with_token(request, token))
        .await
        .expect("a stream")
        .into_inner()
}

pub(crate) async fn message(stream: &mut Streaming<WatchResponse>) -> WatchResponse {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time");
    next.expect("a message").expect("it goes on")
}

/// Reads the stream to its end, and returns the status that ends it.
pub(crate) async fn end(stream: &mut Streaming<WatchResponse>) -> Status {
    let end = async {
        loop {
            if let Err(status) = stream.message().await {
                return status;
            }
        }
    };
    tokio::time::timeout(PATIENCE, end).await.expect("in time")
}

/// Reads the whole snapshot, and returns it as one message.
pub(crate) async fn snapshot(stream: &mut Streaming<WatchResponse>) -> WatchResponse {
    let mut whole = WatchResponse::default();
    loop {
        let part = message(stream).await;
        assert!(part.is_snapshot);
        whole.events.extend(part.events);
        (whole.epoch, whole.sequence) = (part.epoch, part.sequence);
        if part.is_caught_up {
            return whole;
        }
    }
}

/// Returns the permissions of each role, as the feed reports them.
pub(crate) async fn roles(at: std::net::SocketAddr, token: &str) -> BTreeMap<String, Vec<String>> {
    let snapshot = snapshot(&mut watch_with(at, token, "", 0).await).await;
    let roles = snapshot.events.into_iter().filter_map(|event| match event.event {
        Some(Event::RoleChanged(role)) => Some((role.code_name, role.permissions)),
        _ => None,
    });
    roles.collect()
}

/// Returns the epoch and the last sequence number of the feed.
pub(crate) async fn position(at: std::net::SocketAddr, token: &str) -> (String, i64) {
    let snapshot = snapshot(&mut watch_with(at, token, "", 0).await).await;
    (snapshot.epoch, snapshot.sequence)
}

fn sessions(events: &[AccessEvent]) -> BTreeSet<String> {
    let revoked = events.iter().filter_map(|event| match &event.event {
        Some(Event::SessionRevoked(revoked)) => Some(revoked.session_id.clone()),
        _ => None,
    });
    revoked.collect()
}

#[on_both_backends]
async fn a_snapshot_has_every_role_and_the_keys(database: TestDatabase) {
    let server = server(database).await;
    let snapshot = snapshot(&mut watch(server.grpc, "", 0).await).await;
    let mut roles = BTreeSet::new();
    let mut keys = 0;
    for event in &snapshot.events {
        match event.event.as_ref().expect("an event") {
            Event::RoleChanged(role) => {
                assert_eq!(
                    role.permissions.contains(&"users:create".to_owned()),
                    role.code_name == "admin"
                );
                roles.insert(role.code_name.clone());
            }
            Event::KeysChanged(changed) => keys += changed.keys.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        roles.into_iter().collect::<Vec<_>>(),
        ["admin", "guest", "player", "service", "superuser"]
    );
    assert_eq!(keys, 1);
}

#[on_both_backends]
async fn reflection_streams_take_no_place_from_the_feed(database: TestDatabase) {
    let few = server::ServerSettings {
        max_concurrent_streams: 1,
        ..server::ServerSettings::default()
    };
    let (_file, settings) = game_service_account();
    let server = Server::start_limited(database, &settings, &few).await;
    let _held = testing::contract::open_all_reflection_streams(server.grpc).await;
    snapshot(&mut watch(server.grpc, "", 0).await).await;
}

#[on_both_backends]
async fn an_ordinary_user_may_not_watch_the_feed(database: TestDatabase) {
    let server = server(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let mut client = AccessFeedServiceClient::new(channel(server.grpc));
    let refused = client
        .watch(with_token(WatchRequest::default(), &token))
        .await
        .expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
}

#[on_both_backends]
async fn feed_streams_are_limited_per_account(database: TestDatabase) {
    let (_file, settings) = game_service_account_with(&["--max-feed-streams-per-account", "2"]);
    let server = Server::start_with(database, &settings).await;
    let token = service_token(&mut server.auth()).await;
    let first = watch_with(server.grpc, &token, "", 0).await;
    // This stream uses another token of the same account.
    let _second = watch(server.grpc, "", 0).await;
    let another = async || {
        let mut client = AccessFeedServiceClient::new(channel(server.grpc));
        client.watch(with_token(WatchRequest::default(), &token)).await
    };
    let refused = another().await.expect_err("too many");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "TOO_MANY_FEED_STREAMS")
    );
    assert!(retry_after(&refused).is_some());
    let admin = server.superuser().await;
    let mut client = AccessFeedServiceClient::new(channel(server.grpc));
    client
        .watch(with_token(WatchRequest::default(), &admin))
        .await
        .expect("another account");
    drop(first);
    crate::support::callers::eventually(|| async { another().await.ok() }).await;
}

#[on_both_backends]
async fn an_idle_feed_sends_heartbeats(database: TestDatabase) {
    let server = server(database).await;
    let mut stream = watch(server.grpc, "", 0).await;
    let snapshot = snapshot(&mut stream).await;
    for _ in 0..2 {
        let sign = message(&mut stream).await;
        assert!(!sign.is_snapshot && sign.events.is_empty() && sign.is_caught_up);
        assert_eq!((sign.epoch, sign.sequence), (snapshot.epoch.clone(), snapshot.sequence));
    }
}

#[on_both_backends]
async fn a_malformed_position_is_refused(database: TestDatabase) {
    let server = server(database).await;
    let token = service_token(&mut server.auth()).await;
    let mut client = AccessFeedServiceClient::new(channel(server.grpc));
    let request = WatchRequest {
        epoch: "x".to_owned(),
        after_sequence: -1,
    };
    let refused = client.watch(with_token(request, &token)).await.expect_err("refused");
    assert_eq!(testing::rpc::bad_fields(&refused), ["epoch", "after_sequence"]);
}

#[on_both_backends]
async fn renames_are_sent_once_to_a_consumer_that_keeps_its_position(database: TestDatabase) {
    let server = server(database).await;
    let token = server.register("ann").await.tokens.expect("tokens").access_token;
    let rename = UpdateMeRequest {
        user: Some(User {
            login: "anna".to_owned(),
            ..User::default()
        }),
        update_mask: Some(mask(&["login"])),
        current_password: PASSWORD.to_owned(),
    };
    server
        .account()
        .update_me(with_token(rename, &token))
        .await
        .expect("renamed");
    let renamed = |snapshot: &WatchResponse| {
        let logins = snapshot.events.iter().filter_map(|event| match event.event.as_ref()? {
            Event::UserRenamed(renamed) => Some(renamed.login.clone()),
            _ => None,
        });
        logins.collect::<Vec<_>>()
    };
    let first = snapshot(&mut watch(server.grpc, "", 0).await).await;
    assert_eq!(renamed(&first), ["anna"]);
    let other_epoch = "00000000-0000-4000-8000-000000000000";
    for (epoch, after, expected) in [
        (first.epoch.as_str(), first.sequence, 0),
        (&first.epoch, 0, 1),
        // The position belongs to another epoch, or lies beyond the end of the feed. It is ignored.
        (other_epoch, first.sequence, 1),
        (&first.epoch, first.sequence + 1, 1),
    ] {
        let again = snapshot(&mut watch(server.grpc, epoch, after).await).await;
        assert_eq!(renamed(&again).len(), expected, "{epoch} {after}");
        // Everything else is always sent in full.
        assert_eq!(
            (again.epoch.as_str(), again.sequence),
            (first.epoch.as_str(), first.sequence)
        );
        assert_eq!(again.events.len(), first.events.len() - 1 + expected);
    }
}

#[on_both_backends]
async fn a_stream_ends_when_its_service_account_is_deleted(database: TestDatabase) {
    let server = server(database).await;
    let admin = server.superuser().await;
    let mut stream = watch(server.grpc, "", 0).await;
    snapshot(&mut stream).await;
    let delete = DeleteServiceAccountRequest {
        client_id: "game-service".to_owned(),
    };
    let mut accounts = ServiceAccountServiceClient::new(channel(server.grpc));
    accounts
        .delete_service_account(with_token(delete, &admin))
        .await
        .expect("deleted");
    let ended = end(&mut stream).await;
    assert_eq!(
        (ended.code(), reason(&ended)),
        (Code::Unauthenticated, "TOKEN_STALE".to_owned())
    );
}

#[on_both_backends]
async fn a_stream_ends_when_the_permission_to_watch_is_taken_away(database: TestDatabase) {
    let server = server(database).await;
    let admin = server.superuser().await;
    let mut stream = watch(server.grpc, "", 0).await;
    snapshot(&mut stream).await;
    let set = SetRolePermissionsRequest {
        role: "service".to_owned(),
        permissions: Vec::new(),
    };
    RbacServiceClient::new(channel(server.grpc))
        .set_role_permissions(with_token(set, &admin))
        .await
        .expect("set");
    let ended = end(&mut stream).await;
    assert_eq!(
        (ended.code(), reason(&ended)),
        (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
    );
}

#[on_both_backends]
async fn a_feed_that_lost_its_last_events_ends_streams_and_restores_revocations(database: TestDatabase) {
    let server = server(database).await;
    let token = server.register("ann").await.tokens.expect("tokens");
    let mut stream = watch(server.grpc, "", 0).await;
    let before = snapshot(&mut stream).await;
    server
        .auth()
        .logout(LogoutRequest {
            refresh_token: token.refresh_token,
        })
        .await
        .expect("logged out");
    let revoked = loop {
        let revoked = sessions(&message(&mut stream).await.events);
        if !revoked.is_empty() {
            break revoked;
        }
    };
    // Simulates a fail-over to a server that lacks the last commits.
    let lost = format!(
        "DELETE FROM access_feed WHERE sequence > {0}; UPDATE feed_head SET sequence = {0}",
        before.sequence
    );
    let done: db::Result<()> = write_tx!(server.database.db(), |tx| query!(tx, |c| c.batch_execute(&lost).await));
    done.expect("lost");
    let ended = end(&mut stream).await;
    assert_eq!(
        (ended.code(), reason(&ended)),
        (Code::Unavailable, "FEED_BEGUN_ANEW".to_owned())
    );
    // The lost revocations are written again.
    crate::support::callers::eventually(|| async {
        let again = snapshot(&mut watch(server.grpc, &before.epoch, before.sequence + 1).await).await;
        (again.sequence > before.sequence && sessions(&again.events) == revoked).then_some(())
    })
    .await;
}

#[on_both_backends]
async fn a_stream_does_not_outlive_its_token(database: TestDatabase) {
    let server = server(database).await;
    let request = IssueServiceTokenRequest {
        client_id: "game-service".to_owned(),
        client_secret: SECRET.to_owned(),
        ..IssueServiceTokenRequest::default()
    };
    let issued = server
        .auth()
        .issue_service_token(request)
        .await
        .expect("a token")
        .into_inner();
    let mut stream = watch_with(server.grpc, &issued.access_token, "", 0).await;
    snapshot(&mut stream).await;
    // The stream ends after the token's lifetime and 30 s of leeway.
    let life = Duration::from_secs(u64::try_from(issued.access_expires_in).expect("positive"));
    server.clock.advance(life + Duration::from_secs(30));
    let ended = end(&mut stream).await;
    assert_eq!(
        (ended.code(), reason(&ended)),
        (Code::Unauthenticated, "TOKEN_EXPIRED".to_owned())
    );
}

#[on_both_backends]
async fn changes_after_the_snapshot_arrive_once_and_in_order(database: TestDatabase) {
    let server = server(database).await;
    let mut stream = watch(server.grpc, "", 0).await;
    let begun = snapshot(&mut stream).await;
    assert!(sessions(&begun.events).is_empty());
    // End 20 sessions at the same time, each in its own transaction.
    let mut logins = Vec::new();
    for index in 0..20 {
        logins.push(server.register(&format!("user-{index}")).await.tokens.expect("tokens"));
    }
    let logouts = logins.iter().map(|tokens| async {
        let request = LogoutRequest {
            refresh_token: tokens.refresh_token.clone(),
        };
        server.auth().logout(request).await.expect("logged out");
    });
    futures_util::future::join_all(logouts).await;
    let mut at = begun.sequence;
    let mut seen = BTreeSet::new();
    while seen.len() < 20 {
        let news = message(&mut stream).await;
        for event in &news.events {
            assert_eq!(event.sequence, at + 1, "in order, and without a gap");
            at = event.sequence;
        }
        seen.extend(sessions(&news.events));
    }
    // A later stream gets the same revocations in its snapshot.
    let later = snapshot(&mut watch(server.grpc, &begun.epoch, begun.sequence).await).await;
    assert_eq!(sessions(&later.events), seen);
    assert_eq!((later.epoch, later.sequence), (begun.epoch, at));
}
