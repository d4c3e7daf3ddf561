//! Access tokens that are limited to one service, and the calls that require such a token.

use std::collections::BTreeSet;

use access::{
    policy::{Policies, Policy},
    token::{AUTH_SERVICE, Audience, DEFAULT_AUDIENCE},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proto::auth::v1::{
    ChangePasswordRequest, FILE_DESCRIPTOR_SET, GetMeRequest, IntrospectTokenRequest, IssueServiceTokenRequest,
    LoginRequest, RefreshAccessTokenRequest, RegisterRequest, RevokeTokenRequest, RotateTokensRequest, TokenPair, User,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{RawConnection, bad_fields, frame, reason, with_token},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{PASSWORD, Server, credentials, registration, settings, with_password};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

const ACCOUNTS: &str = r#"[
    {"client_id": "game-service", "secret": "0123456789abcdef0123456789abcdef", "roles": ["service"]},
    {"client_id": "root", "secret": "0123456789abcdef0123456789abcdef", "roles": ["superuser"]}
]"#;

/// Arguments of a strict server. It refuses a token for the whole deployment where an RPC requires
/// a token for auth-service only.
const STRICT: [&str; 2] = ["--admit-deployment-tokens", "false"];

/// Starts a server with service accounts for game-service and for the superuser `root`.
async fn server(database: TestDatabase, more: &[&str]) -> Server {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), ACCOUNTS).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    Server::start_with(
        database,
        &settings(&[&["--service-accounts-file", path], more].concat()),
    )
    .await
}

/// Returns the `aud` claim of an access token.
fn audience(access_token: &str) -> Audience {
    let claims = access_token.split('.').nth(1).expect("claims");
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    serde_json::from_value(claims["aud"].clone()).expect("an audience")
}

async fn refresh(server: &Server, refresh_token: &str, audience: &str) -> Result<String, Status> {
    let request = RefreshAccessTokenRequest {
        refresh_token: refresh_token.to_owned(),
        audience: audience.to_owned(),
    };
    let answer = server.auth().refresh_access_token(request).await?;
    Ok(answer.into_inner().access_token)
}

async fn rename(server: &Server, access_token: &str) -> Result<(), Status> {
    let change = with_password(User {
        login: "eve".to_owned(),
        ..User::default()
    });
    server
        .account()
        .update_me(with_token(change, access_token))
        .await
        .map(drop)
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.expect_err("refused");
    (status.code(), reason(&status))
}

#[on_both_backends]
async fn every_token_rpc_issues_the_requested_audience(database: TestDatabase) {
    let server = server(database, &[]).await;
    let ann = RegisterRequest {
        audience: "game-service".to_owned(),
        ..registration("ann")
    };
    let registered = server.auth().register(ann).await.expect("registered").into_inner();
    let tokens: TokenPair = registered.tokens.expect("tokens");
    assert_eq!(audience(&tokens.access_token), "game-service".into());
    let login = LoginRequest {
        audience: AUTH_SERVICE.to_owned(),
        ..credentials("ann", PASSWORD)
    };
    let logged_in = server
        .auth()
        .login(login)
        .await
        .expect("logged in")
        .into_inner()
        .tokens
        .expect("tokens");
    assert_eq!(audience(&logged_in.access_token), AUTH_SERVICE.into());
    for (wanted, got) in [
        ("", DEFAULT_AUDIENCE),
        ("game-service", "game-service"),
        (AUTH_SERVICE, AUTH_SERVICE),
    ] {
        let refreshed = refresh(&server, &tokens.refresh_token, wanted)
            .await
            .expect("refreshed");
        assert_eq!(audience(&refreshed), got.into());
    }
    let rotate = RotateTokensRequest {
        refresh_token: tokens.refresh_token,
        audience: AUTH_SERVICE.to_owned(),
        ..RotateTokensRequest::default()
    };
    let rotated = server
        .auth()
        .rotate_tokens(rotate)
        .await
        .expect("rotated")
        .into_inner()
        .tokens
        .expect("tokens");
    assert_eq!(audience(&rotated.access_token), AUTH_SERVICE.into());
    let issue = IssueServiceTokenRequest {
        client_id: "game-service".to_owned(),
        client_secret: SECRET.to_owned(),
        audience: AUTH_SERVICE.to_owned(),
    };
    let issued = server
        .auth()
        .issue_service_token(issue)
        .await
        .expect("issued")
        .into_inner();
    assert_eq!(audience(&issued.access_token), AUTH_SERVICE.into());
}

#[on_both_backends]
async fn an_unknown_audience_is_refused_without_using_up_the_refresh_token(database: TestDatabase) {
    let server = server(database, &[]).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    for unknown in [
        "courses",
        "Game-Service",
        "game-service ",
        "x",
        "\0",
        &"x".repeat(10_000),
    ] {
        let refused = refresh(&server, &tokens.refresh_token, unknown)
            .await
            .expect_err("unknown");
        assert_eq!(
            (refused.code(), bad_fields(&refused)),
            (Code::InvalidArgument, vec!["audience".to_owned()])
        );
        let rotate = RotateTokensRequest {
            refresh_token: tokens.refresh_token.clone(),
            audience: unknown.to_owned(),
            ..RotateTokensRequest::default()
        };
        let refused = server.auth().rotate_tokens(rotate).await.expect_err("unknown");
        assert_eq!(bad_fields(&refused), ["audience"]);
        let login = LoginRequest {
            audience: unknown.to_owned(),
            ..credentials("ann", PASSWORD)
        };
        assert_eq!(
            bad_fields(&server.auth().login(login).await.expect_err("unknown")),
            ["audience"]
        );
    }
    let bob = RegisterRequest {
        audience: "courses".to_owned(),
        ..registration("bob")
    };
    assert_eq!(
        bad_fields(&server.auth().register(bob).await.expect_err("unknown")),
        ["audience"]
    );
    server.register("bob").await;
    server
        .rotate(&tokens.refresh_token, "")
        .await
        .expect("the refresh token is as it was");
}

#[on_both_backends]
async fn sensitive_rpcs_need_a_token_for_auth_service_only(database: TestDatabase) {
    let server = server(database, &STRICT).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let refused = rename(&server, &tokens.access_token)
        .await
        .expect_err("a token for everybody");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "AUDIENCE_REQUIRED")
    );
    let info = refused.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.metadata.get("audience").map(String::as_str), Some(AUTH_SERVICE));
    // A token for game-service is worthless here, so a service cannot misuse the tokens that users
    // send it.
    let for_games = refresh(&server, &tokens.refresh_token, "game-service")
        .await
        .expect("refreshed");
    assert_eq!(
        refusal(rename(&server, &for_games).await),
        (Code::Unauthenticated, "TOKEN_INVALID".to_owned())
    );
    // Calls that reveal or change little accept either token.
    server
        .account()
        .get_me(with_token(GetMeRequest {}, &tokens.access_token))
        .await
        .expect("me");
    let own = refresh(&server, &tokens.refresh_token, AUTH_SERVICE)
        .await
        .expect("refreshed");
    server
        .account()
        .get_me(with_token(GetMeRequest {}, &own))
        .await
        .expect("me");
    rename(&server, &own).await.expect("renamed");
}

#[on_both_backends]
async fn deployment_tokens_are_still_accepted_by_default(database: TestDatabase) {
    let server = server(database, &[]).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    rename(&server, &tokens.access_token).await.expect("renamed");
    let for_games = refresh(&server, &tokens.refresh_token, "game-service").await;
    // The new login has made older access tokens stale. This token is new, and is refused only
    // because of its audience.
    assert_eq!(
        refusal(rename(&server, &for_games.expect("refreshed")).await).1,
        "TOKEN_INVALID"
    );
}

#[on_both_backends]
async fn all_administrative_rpcs_need_the_exact_audience(database: TestDatabase) {
    let server = server(database, &STRICT).await;
    let token = async |audience: &str| {
        let issue = IssueServiceTokenRequest {
            client_id: "root".to_owned(),
            client_secret: SECRET.to_owned(),
            audience: audience.to_owned(),
        };
        let issued = server.auth().issue_service_token(issue).await.expect("issued");
        format!("Bearer {}", issued.into_inner().access_token)
    };
    let (shared, own) = (token("").await, token(AUTH_SERVICE).await);
    let policies = Policies::from_descriptor_set(FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let connection = RawConnection::open(server.grpc).await;
    let mut refused = BTreeSet::new();
    for (path, policy) in policies.iter().filter(|(_, policy)| **policy != Policy::Public) {
        let with_shared = connection
            .begin(path, &[("authorization", &shared)], frame(&[0xff]))
            .await
            .1;
        let with_own = connection
            .begin(path, &[("authorization", &own)], frame(&[0xff]))
            .await
            .1;
        assert_ne!(with_own, "AUDIENCE_REQUIRED", "{path} {policy:?}");
        if with_shared == "AUDIENCE_REQUIRED" {
            refused.insert(path);
        }
    }
    let administers = |path: &str| {
        let services = [
            "UserService",
            "ServiceAccountService",
            "AuditService",
            "KeyService",
            "RbacService",
            "AccessFeedService",
        ];
        let own = [
            "/auth.v1.AccountService/UpdateMe",
            "/auth.v1.AccountService/ChangePassword",
            "/auth.v1.AccountService/Reauthenticate",
            "/auth.v1.AccountService/CreateTotpFactor",
            "/auth.v1.AccountService/ConfirmTotpFactor",
            "/auth.v1.AccountService/ListSecondFactors",
            "/auth.v1.AccountService/DeleteSecondFactor",
            "/auth.v1.AccountService/RenewRecoveryCodes",
            "/auth.v1.AccountService/UpgradeAccount",
            "/auth.v1.AccountService/DeleteMe",
            "/auth.v1.AccountService/ExportMe",
            "/auth.v1.AccountService/RevokeMySession",
            "/auth.v1.AuthService/RevokeAllTokens",
            "/auth.v1.AuthService/IntrospectToken",
        ];
        services
            .iter()
            .any(|service| path.starts_with(&format!("/auth.v1.{service}/")))
            || own.contains(&path)
    };
    let paths = policies
        .iter()
        .filter(|(_, policy)| **policy != Policy::Public)
        .map(|(path, _)| path);
    let expected: BTreeSet<&str> = paths.filter(|path| administers(path)).collect();
    assert_eq!(refused, expected);
    assert!(refused.len() > 50, "{}", refused.len());
}

#[on_both_backends]
async fn a_service_can_introspect_but_not_revoke_the_tokens_it_receives(database: TestDatabase) {
    let server = server(database, &[]).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let for_games = refresh(&server, &tokens.refresh_token, "game-service")
        .await
        .expect("refreshed");
    let issue = IssueServiceTokenRequest {
        client_id: "game-service".to_owned(),
        client_secret: SECRET.to_owned(),
        ..IssueServiceTokenRequest::default()
    };
    let service = server
        .auth()
        .issue_service_token(issue)
        .await
        .expect("issued")
        .into_inner()
        .access_token;
    let introspect = async |token: &str| {
        let request = with_token(
            IntrospectTokenRequest {
                token: token.to_owned(),
            },
            &service,
        );
        server
            .auth()
            .introspect_token(request)
            .await
            .expect("introspected")
            .into_inner()
    };
    let found = introspect(&for_games).await;
    assert!(found.active);
    assert_eq!(found.audiences, ["game-service"]);
    // The service that received the token cannot end the session with it, and no other service
    // accepts it.
    let revoke = |token: &str| RevokeTokenRequest {
        token: token.to_owned(),
        ..RevokeTokenRequest::default()
    };
    let refused = server
        .auth()
        .revoke_token(revoke(&for_games))
        .await
        .expect_err("not for auth-service");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "AUDIENCE_REQUIRED")
    );
    assert!(introspect(&for_games).await.active);
    let own = refresh(&server, &tokens.refresh_token, AUTH_SERVICE)
        .await
        .expect("refreshed");
    assert!(!introspect(&own).await.active, "it is not for game-service");
    server.auth().revoke_token(revoke(&own)).await.expect("revoked");
    assert!(!introspect(&for_games).await.active);
}

#[on_both_backends]
async fn a_password_change_keeps_the_audience_of_the_token(database: TestDatabase) {
    let server = server(database, &[]).await;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let own = refresh(&server, &tokens.refresh_token, AUTH_SERVICE)
        .await
        .expect("refreshed");
    let change = ChangePasswordRequest {
        current_password: PASSWORD.to_owned(),
        new_password: "battery staple".to_owned(),
        new_password_confirmation: "battery staple".to_owned(),
    };
    let changed = server
        .account()
        .change_password(with_token(change, &own))
        .await
        .expect("changed");
    let tokens = changed.into_inner().tokens.expect("tokens");
    assert_eq!(audience(&tokens.access_token), AUTH_SERVICE.into());
}

#[on_both_backends]
async fn refused_logins_do_not_reveal_which_services_exist(database: TestDatabase) {
    let server = server(database, &[]).await;
    server.register("ann").await;
    for service in ["game-service", "no-such-service"] {
        let login = LoginRequest {
            audience: service.to_owned(),
            ..credentials("ann", "not her password")
        };
        let refused = server.auth().login(login).await.expect_err("a wrong password");
        assert_eq!(reason(&refused), "CREDENTIALS_INVALID", "{service}");
        let refused = refresh(&server, "v1.forged", service)
            .await
            .expect_err("a forged token");
        assert_eq!(reason(&refused), "REFRESH_TOKEN_INVALID", "{service}");
    }
}
