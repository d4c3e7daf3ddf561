//! Invalid calls: they are refused before any expensive work, and have a rate limit of their own.

use proto::auth::v1::{FILE_DESCRIPTOR_SET, LoginRequest, RegisterRequest};
use server::ServerSettings;
use testing::{
    TestDatabase, invalid, on_both_backends,
    rpc::{bad_fields, reason},
};
use tonic::{Code, Request};

use crate::support::{PASSWORD, Server, callers::server_with_root, credentials, registration, settings};

const LOGIN: &str = "/auth.v1.AuthService/Login";

/// Text fields that are not refused as invalid if they are too long.
const UNREAD: [&str; 11] = [
    // A token that is too long is treated like any other invalid token. The hint is ignored.
    "refresh_token",
    "token",
    "token_type_hint",
    "device_token",
    // These requests cannot change these fields, and ignore them.
    "user.user_id",
    "resource.owner",
    "UpdatePermission permission.resource",
    "UpdatePermission permission.action",
    "UpdateRole role.permissions",
    // The mask is not read if the request contains no user.
    "UpdateMe update_mask.paths",
    "UpdateUser update_mask.paths",
];

/// Starts a server behind a trusted proxy that reports client addresses. The server answers this
/// many invalid calls per minute and client.
async fn behind_a_proxy(database: TestDatabase, arguments: &[&str], invalid_calls_per_minute: u32) -> Server {
    let server = ServerSettings {
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        invalid_calls_per_minute,
        ..ServerSettings::default()
    };
    Server::start_limited(database, &settings(arguments), &server).await
}

fn from<T>(address: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("x-forwarded-for", address.parse().expect("ASCII"));
    request
}

#[on_both_backends]
async fn overlong_texts_are_refused_before_they_are_processed(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    invalid::long_texts_are_refused(server.grpc, FILE_DESCRIPTOR_SET, &root.token, &UNREAD).await;
}

#[on_both_backends]
async fn the_limit_on_invalid_calls_does_not_affect_valid_ones(database: TestDatabase) {
    let server = behind_a_proxy(database, &[], 5).await;
    let ann = server
        .auth()
        .register(from("192.0.2.1", registration("ann")))
        .await
        .expect("registered")
        .into_inner();
    let token = ann.tokens.expect("tokens").access_token;
    for (address, token) in [
        ("192.0.2.1", None),
        // Signed-in users are counted separately, whichever address they call from.
        ("192.0.2.1", Some(token.as_str())),
        ("192.0.2.2", None),
        ("2001:db8:1:1::1", None),
        ("2001:db8:1:2::1", None),
    ] {
        invalid::invalid_calls_are_limited_to(server.grpc, LOGIN, token, address, 5).await;
    }
    let refused = server
        .auth()
        .register(from("192.0.2.1", RegisterRequest::default()))
        .await
        .expect_err("invalid");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "TOO_MANY_INVALID_CALLS")
    );
    server
        .auth()
        .login(from("192.0.2.1", credentials("ann", PASSWORD)))
        .await
        .expect("valid calls are served");
    let mut me = from("192.0.2.1", proto::auth::v1::GetMeRequest {});
    me.metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
    server.account().get_me(me).await.expect("valid calls are served");
}

#[on_both_backends]
async fn invalid_requests_do_not_count_as_attempts(database: TestDatabase) {
    let server = behind_a_proxy(
        database,
        &[
            "--login-rate-per-minute",
            "1",
            "--login-burst",
            "1",
            "--registration-rate-per-minute",
            "1",
            "--registration-burst",
            "1",
        ],
        300,
    )
    .await;
    for _ in 0..20 {
        let refused = server
            .auth()
            .login(from("192.0.2.1", LoginRequest::default()))
            .await
            .expect_err("invalid");
        assert_eq!(bad_fields(&refused), ["identifier", "password"]);
        let typo = RegisterRequest {
            email: "ann".to_owned(),
            ..registration("ann")
        };
        let refused = server
            .auth()
            .register(from("192.0.2.1", typo))
            .await
            .expect_err("invalid");
        assert_eq!(bad_fields(&refused), ["email"]);
    }
    server
        .auth()
        .register(from("192.0.2.1", registration("ann")))
        .await
        .expect("registered");
    server
        .auth()
        .login(from("192.0.2.1", credentials("ann", PASSWORD)))
        .await
        .expect("logged in");
}
