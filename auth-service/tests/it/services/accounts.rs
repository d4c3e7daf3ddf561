//! Service accounts: their secrets, their tokens, and the limits on what may be granted to them.

use std::time::Duration;

use auth_service::config::AuthSettings;
use proto::auth::v1::{
    CreateServiceAccountRequest, DeleteServiceAccountRequest, GetMeRequest, GetServiceAccountRequest,
    IntrospectTokenRequest, IssueServiceTokenRequest, ListServiceAccountsRequest, LogoutRequest,
    RefreshAccessTokenRequest, RevokeAllTokensRequest, RevokeTokenRequest, RotateServiceAccountSecretRequest,
    ServiceAccount, service_account_service_client::ServiceAccountServiceClient,
};
use server::ServerSettings;
use tempfile::NamedTempFile;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, channel, reason, with_token},
};
use tonic::{Code, Status, transport::Channel};

use crate::support::{
    START, Server,
    callers::{Caller, names, refusal, server_with_root},
    settings, spawn,
};

const SECRET: &str = "a secret of at least thirty-two characters";
const OTHER_SECRET: &str = "another secret of at least thirty-two characters";

fn accounts(server: &Server) -> ServiceAccountServiceClient<Channel> {
    ServiceAccountServiceClient::new(channel(server.grpc))
}

async fn token(server: &Server, client_id: &str, secret: &str) -> Result<String, Status> {
    let request = IssueServiceTokenRequest {
        client_id: client_id.to_owned(),
        client_secret: secret.to_owned(),
        ..IssueServiceTokenRequest::default()
    };
    let answer = server.auth().issue_service_token(request).await?;
    Ok(answer.into_inner().access_token)
}

async fn create(
    server: &Server,
    by: &Caller,
    client_id: &str,
    roles: &[&str],
    permissions: &[&str],
) -> Result<(ServiceAccount, String), Status> {
    let request = CreateServiceAccountRequest {
        client_id: client_id.to_owned(),
        description: "of a test".to_owned(),
        roles: names(roles),
        permissions: names(permissions),
    };
    let answer = accounts(server)
        .create_service_account(with_token(request, &by.token))
        .await?;
    let made = answer.into_inner();
    Ok((made.service_account.expect("an account"), made.client_secret))
}

async fn rotate(server: &Server, by: &Caller, client_id: &str, overlap_seconds: i32) -> Result<String, Status> {
    let request = RotateServiceAccountSecretRequest {
        client_id: client_id.to_owned(),
        overlap_seconds,
    };
    let answer = accounts(server)
        .rotate_service_account_secret(with_token(request, &by.token))
        .await?;
    Ok(answer.into_inner().client_secret)
}

async fn get(server: &Server, by: &Caller, client_id: &str) -> Result<ServiceAccount, Status> {
    let request = GetServiceAccountRequest {
        client_id: client_id.to_owned(),
    };
    let answer = accounts(server)
        .get_service_account(with_token(request, &by.token))
        .await?;
    Ok(answer.into_inner().service_account.expect("an account"))
}

/// Returns settings with these accounts, and the file that defines them.
fn with_file(json: &str) -> (NamedTempFile, AuthSettings) {
    let file = NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), json).expect("written");
    let settings = settings(&["--service-accounts-file", file.path().to_str().expect("UTF-8")]);
    (file, settings)
}

#[on_both_backends]
async fn a_secret_can_be_rotated_without_interruption(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let (made, first) = create(&server, &root, "courses", &[], &[]).await.expect("made");
    assert_eq!(
        (made.roles, made.permissions, made.last_token_time),
        (names(&["service"]), vec![], None)
    );
    let out = token(&server, "courses", &first).await.expect("a token");
    let second = rotate(&server, &root, "courses", 60).await.expect("rotated");
    for secret in [&first, &second] {
        token(&server, "courses", secret).await.expect("both are good");
    }
    server.clock.advance(Duration::from_secs(60));
    let invalid = (Code::Unauthenticated, "CLIENT_CREDENTIALS_INVALID".to_owned());
    assert_eq!(refusal(token(&server, "courses", &first).await), invalid);
    token(&server, "courses", &second).await.expect("the new one stays");
    let third = rotate(&server, &root, "courses", 0).await.expect("rotated");
    assert_eq!(refusal(token(&server, "courses", &second).await), invalid);
    token(&server, "courses", &third).await.expect("the newest one");
    // The answer does not reveal which client ids exist.
    let mut refused = Vec::new();
    for (client_id, secret) in [
        ("nobody", "x"),
        ("courses", "x"),
        ("courses", first.as_str()),
        ("courses", out.as_str()),
    ] {
        let status = token(&server, client_id, secret).await.expect_err("refused");
        refused.push((status.code(), status.message().to_owned(), reason(&status)));
    }
    assert!(refused.iter().all(|one| *one == refused[0]), "{refused:?}");
    for bad in [-1, 604_801] {
        assert_eq!(
            bad_fields(&rotate(&server, &root, "courses", bad).await.expect_err("bad")),
            ["overlap_seconds"]
        );
    }
    let account = get(&server, &root, "courses").await.expect("there");
    assert!(account.last_token_time.is_some());
    assert_ne!(account.secret_time, account.create_time);
}

#[on_both_backends]
async fn rotation_without_overlap_revokes_a_leaked_secret_and_its_tokens(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    // An administrator may manage ordinary services, although the role `service` holds permissions
    // that the role `admin` does not.
    let admin = root.service(&server, "the-admin", &["admin"], &[]).await;
    let (_, leaked) = create(&server, &admin, "courses", &[], &[]).await.expect("made");
    let out = token(&server, "courses", &leaked).await.expect("a token");
    let me = async |token: &str| {
        server
            .account()
            .get_me(with_token(GetMeRequest {}, token))
            .await
            .map(drop)
    };
    let next = rotate(&server, &admin, "courses", 60).await.expect("rotated");
    me(&out).await.expect("goes on");
    let last = rotate(&server, &admin, "courses", 0).await.expect("rotated");
    assert_eq!(
        refusal(me(&out).await),
        (Code::Unauthenticated, "TOKEN_STALE".to_owned())
    );
    for gone in [leaked, next] {
        assert_eq!(
            refusal(token(&server, "courses", &gone).await),
            (Code::Unauthenticated, "CLIENT_CREDENTIALS_INVALID".to_owned())
        );
    }
    me(&token(&server, "courses", &last).await.expect("a token"))
        .await
        .expect("good");
}

#[on_both_backends]
async fn malformed_client_ids_are_refused_like_unknown_ones(database: TestDatabase) {
    let server = Server::start(database).await;
    for nonsense in ["a\0b", "A B"] {
        let refused = refusal(token(&server, nonsense, SECRET).await);
        assert_eq!(
            refused,
            (Code::Unauthenticated, "CLIENT_CREDENTIALS_INVALID".to_owned())
        );
    }
    // No client id is this long, so this refusal does not reveal which client ids exist.
    let refused = refusal(token(&server, &"x".repeat(40_000), SECRET).await);
    assert_eq!(refused, (Code::InvalidArgument, "FIELDS_INVALID".to_owned()));
}

#[on_both_backends]
async fn deleted_service_accounts_are_refused_everywhere(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let reader = root.service(&server, "reader", &[], &["tokens:read"]).await;
    let introspect = async || {
        let request = IntrospectTokenRequest { token: "x".to_owned() };
        server
            .auth()
            .introspect_token(with_token(request, &reader.token))
            .await
            .map(drop)
    };
    introspect().await.expect("allowed");
    let delete = |client_id: &str| {
        with_token(
            DeleteServiceAccountRequest {
                client_id: client_id.to_owned(),
            },
            &root.token,
        )
    };
    accounts(&server)
        .delete_service_account(delete("reader"))
        .await
        .expect("deleted");
    assert_eq!(
        refusal(introspect().await),
        (Code::Unauthenticated, "TOKEN_STALE".to_owned())
    );
    let not_found = (Code::NotFound, "SERVICE_ACCOUNT_NOT_FOUND".to_owned());
    assert_eq!(
        refusal(accounts(&server).delete_service_account(delete("reader")).await),
        not_found
    );
    assert_eq!(refusal(get(&server, &root, "reader").await), not_found);
    assert_eq!(refusal(rotate(&server, &root, "reader", 0).await), not_found);
    // The client id is free again. A new account with it gets another user id.
    let (next, _) = create(&server, &root, "reader", &[], &[]).await.expect("made");
    assert_ne!(next.user_id, reader.user_id);
    assert_eq!(
        refusal(create(&server, &root, "reader", &[], &[]).await),
        (Code::AlreadyExists, "SERVICE_ACCOUNT_ALREADY_EXISTS".to_owned())
    );
    // The last superuser cannot be deleted, even if it is a service account.
    assert_eq!(
        refusal(accounts(&server).delete_service_account(delete("root")).await),
        (Code::FailedPrecondition, "LAST_ADMIN".to_owned())
    );
}

#[on_both_backends]
async fn service_accounts_cannot_be_used_to_gain_permissions(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    root.make_role("keeper", &["service_accounts:all"]).await;
    let keeper = root.service(&server, "the-keeper", &["keeper"], &[]).await;
    root.service(&server, "the-auditor", &[], &["audit:read"]).await;
    let exceeds = (Code::PermissionDenied, "GRANT_EXCEEDS_OWN".to_owned());
    let superuser = (Code::PermissionDenied, "SUPERUSER_REQUIRED".to_owned());
    assert_eq!(
        refusal(create(&server, &keeper, "more", &["admin"], &[]).await),
        exceeds
    );
    assert_eq!(
        refusal(create(&server, &keeper, "more", &[], &["audit:read"]).await),
        exceeds
    );
    assert_eq!(
        refusal(create(&server, &keeper, "more", &["superuser"], &[]).await),
        superuser
    );
    assert_eq!(refusal(rotate(&server, &keeper, "the-auditor", 0).await), exceeds);
    assert_eq!(refusal(rotate(&server, &keeper, "root", 0).await), superuser);
    let delete = with_token(
        DeleteServiceAccountRequest {
            client_id: "root".to_owned(),
        },
        &keeper.token,
    );
    assert_eq!(
        refusal(accounts(&server).delete_service_account(delete).await),
        superuser
    );
    assert_eq!(
        refusal(get(&server, &root, "more").await),
        (Code::NotFound, "SERVICE_ACCOUNT_NOT_FOUND".to_owned())
    );
    create(&server, &keeper, "same", &["keeper"], &[])
        .await
        .expect("nothing beyond its own");
    rotate(&server, &keeper, "same", 0)
        .await
        .expect("nothing beyond its own");
    // Roles and permissions that do not exist cannot be granted.
    assert_eq!(
        refusal(create(&server, &root, "more", &["nobody"], &[]).await),
        (Code::NotFound, "ROLE_NOT_FOUND".to_owned())
    );
    assert_eq!(
        refusal(create(&server, &root, "more", &[], &["no:thing"]).await),
        (Code::NotFound, "PERMISSION_NOT_FOUND".to_owned())
    );
    let invalid = create(&server, &root, "First-Party", &["A"], &["b"])
        .await
        .expect_err("bad");
    assert_eq!(bad_fields(&invalid), ["client_id", "roles[0]", "permissions[0]"]);
    for reserved in ["first-party", "command-line", "auth-service"] {
        assert_eq!(
            bad_fields(&create(&server, &root, reserved, &[], &[]).await.expect_err("reserved")),
            ["client_id"]
        );
    }
}

#[on_both_backends]
async fn a_service_account_has_no_session(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let (_, secret) = create(&server, &root, "courses", &[], &[]).await.expect("made");
    let request = IssueServiceTokenRequest {
        client_id: "courses".to_owned(),
        client_secret: secret,
        ..IssueServiceTokenRequest::default()
    };
    let issued = server
        .auth()
        .issue_service_token(request.clone())
        .await
        .expect("a token")
        .into_inner();
    assert!((60..=3600).contains(&issued.access_expires_in), "{issued:?}");
    let access = &issued.access_token;
    // There is no refresh token, so a service cannot extend the life of an access token.
    let refresh = server
        .auth()
        .refresh_access_token(RefreshAccessTokenRequest {
            refresh_token: access.clone(),
            ..RefreshAccessTokenRequest::default()
        })
        .await;
    assert_eq!(
        refusal(refresh),
        (Code::Unauthenticated, "REFRESH_TOKEN_INVALID".to_owned())
    );
    // Revoking one token of a service revokes all of its tokens.
    let other = token(&server, "courses", &request.client_secret)
        .await
        .expect("a token");
    let me = async |token: &str| {
        server
            .account()
            .get_me(with_token(GetMeRequest {}, token))
            .await
            .map(drop)
    };
    me(&other).await.expect("good");
    for _ in 0..2 {
        let revoke = RevokeTokenRequest {
            token: access.clone(),
            ..RevokeTokenRequest::default()
        };
        server.auth().revoke_token(revoke).await.expect("revoked");
    }
    let next = token(&server, "courses", &request.client_secret)
        .await
        .expect("a token");
    for dead in [access, &other] {
        assert_eq!(
            refusal(me(dead).await),
            (Code::Unauthenticated, "TOKEN_STALE".to_owned())
        );
    }
    me(&next).await.expect("the dead one revokes nothing more");
    server
        .auth()
        .logout(with_token(LogoutRequest::default(), &next))
        .await
        .expect("logged out");
    assert_eq!(
        refusal(me(&next).await),
        (Code::Unauthenticated, "TOKEN_STALE".to_owned())
    );
    let next = token(&server, "courses", &request.client_secret)
        .await
        .expect("a token");
    let all = server
        .auth()
        .revoke_all_tokens(with_token(RevokeAllTokensRequest {}, &next))
        .await;
    assert_eq!(all.expect("revoked").into_inner().session_count, 0);
    assert_eq!(
        refusal(me(&next).await),
        (Code::Unauthenticated, "TOKEN_STALE".to_owned())
    );
}

#[on_both_backends]
async fn service_accounts_are_listed_in_pages(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    for number in 0..5 {
        server.clock.advance(Duration::from_secs(1));
        create(&server, &root, &format!("service-{number}"), &[], &[])
            .await
            .expect("made");
    }
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListServiceAccountsRequest {
            page_size: 2,
            page_token,
        };
        let answer = accounts(&server)
            .list_service_accounts(with_token(request, &root.token))
            .await
            .expect("listed")
            .into_inner();
        assert!(answer.service_accounts.len() <= 2);
        listed.extend(answer.service_accounts.into_iter().map(|account| account.client_id));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(
        listed,
        ["service-4", "service-3", "service-2", "service-1", "service-0", "root"]
    );
}

#[on_both_backends]
async fn the_service_accounts_file_is_applied_at_each_start(database: TestDatabase) {
    let json = |secret: &str, more: &str| {
        format!(
            r#"[{{"client_id": "root", "secret": "{SECRET}", "roles": ["superuser"]}},
                {{"client_id": "courses", "secret": "{secret}"{more}}}]"#
        )
    };
    let (_file, first) = with_file(&json(SECRET, ""));
    let server = Server::start_with(database, &first).await;
    let old = token(&server, "courses", SECRET).await.expect("a token");
    let root = Caller::with_token(&server, &token(&server, "root", SECRET).await.expect("a token"), "");
    let before = get(&server, &root, "courses").await.expect("there");
    let restart = async |settings: &AuthSettings| {
        let db = server.database.replica().await;
        let (running, grpc, _) = spawn(
            settings,
            &ServerSettings::default(),
            db,
            &server.secret,
            base::clock::Clock::manual(START).0,
        )
        .await;
        (running, grpc)
    };
    // A restart with the same file changes nothing.
    let _again = restart(&first).await;
    assert_eq!(get(&server, &root, "courses").await.expect("there"), before);
    // A new secret and new roles take effect at the next start, and make old tokens stale.
    let (_file, second) = with_file(&json(
        OTHER_SECRET,
        r#", "roles": ["service"], "permissions": ["tokens:read"]"#,
    ));
    let (_running, _) = restart(&second).await;
    assert_eq!(
        refusal(token(&server, "courses", SECRET).await),
        (Code::Unauthenticated, "CLIENT_CREDENTIALS_INVALID".to_owned())
    );
    let new = token(&server, "courses", OTHER_SECRET).await.expect("a token");
    let introspect = async |token: &str| {
        let request = IntrospectTokenRequest { token: "x".to_owned() };
        server
            .auth()
            .introspect_token(with_token(request, token))
            .await
            .map(drop)
    };
    introspect(&new).await.expect("allowed");
    let becomes_stale = async |token: &str| {
        crate::support::callers::eventually(|| async {
            let refused = introspect(token).await.err();
            refused.filter(|status| reason(status) == "TOKEN_STALE")
        })
        .await;
    };
    becomes_stale(&old).await;
    // So does a new secret alone, because anyone who knew the old one may have a token.
    let more = r#", "roles": ["service"], "permissions": ["tokens:read"]"#;
    let described = format!(r#"{more}, "description": "Courses""#);
    let (_file, third) = with_file(&json(SECRET, &described));
    let (_running, _) = restart(&third).await;
    becomes_stale(&new).await;
    assert_eq!(
        get(&server, &root, "courses").await.expect("there").description,
        "Courses"
    );
    // A new description takes effect and leaves the tokens alone. A file without one keeps it.
    let newest = token(&server, "courses", SECRET).await.expect("a token");
    let described = format!(r#"{more}, "description": "All courses""#);
    for (more, description) in [(described.as_str(), "All courses"), (more, "All courses")] {
        let (_file, settings) = with_file(&json(SECRET, more));
        let (_running, _) = restart(&settings).await;
        assert_eq!(
            get(&server, &root, "courses").await.expect("there").description,
            description
        );
    }
    introspect(&newest).await.expect("allowed");
}
