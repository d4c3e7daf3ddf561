//! The refresh token in a cookie: which callers get one, its attributes, and the protection against
//! other origins and planted cookies.

use std::time::Duration;

use proto::auth::v1::{
    ChangePasswordRequest, DeleteMeRequest, ListMySessionsRequest, LogoutRequest, RefreshAccessTokenRequest,
    RevokeAllTokensRequest, RevokeTokenRequest, RotateTokensRequest, TokenPair,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{bad_fields, reason, with_token},
};
use tonic::{Code, Request, Status, metadata::MetadataMap};

use crate::support::{PASSWORD, Server, credentials, registration, settings};

const PAGE: &str = "https://play.example.com";
const LOCAL_PAGE: &str = "http://localhost:8080";
const COOKIE: &str = "__Host-refresh_token";
/// Name of the cookie in earlier versions. The server still reads and clears it.
const LEGACY_COOKIE: &str = "__Secure-refresh_token";

async fn start(database: TestDatabase) -> Server {
    let origins = format!("{PAGE},{LOCAL_PAGE}");
    Server::start_with(database, &settings(&["--cookie-origins", &origins])).await
}

/// Builds a call as a page of this origin sends it, with these browser cookies.
fn from_page<T>(message: T, origin: &str, cookies: &[&str]) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("x-token-transport", "cookie".parse().expect("ASCII"));
    metadata.insert("origin", origin.parse().expect("ASCII"));
    for cookie in cookies {
        metadata.append("cookie", cookie.as_bytes().try_into().expect("a header"));
    }
    request
}

fn signed_in<T>(mut request: Request<T>, tokens: &TokenPair) -> Request<T> {
    let bearer = format!("Bearer {}", tokens.access_token);
    request
        .metadata_mut()
        .insert("authorization", bearer.parse().expect("ASCII"));
    request
}

/// Returns every cookie that a response sets or clears: `name=value` and its sorted attributes.
fn set_cookies(metadata: &MetadataMap) -> Vec<(String, Vec<String>)> {
    let set = metadata.get_all("set-cookie").iter();
    set.map(|header| {
        let mut parts = header.to_str().expect("ASCII").split("; ").map(str::to_owned);
        let pair = parts.next().expect("a name and a value");
        let mut attributes: Vec<String> = parts.collect();
        attributes.sort();
        (pair, attributes)
    })
    .collect()
}

fn is_removal(attributes: &[String]) -> bool {
    attributes.contains(&"Max-Age=0".to_owned())
}

/// Returns the cookie that a response sets, if any. Fails if it sets more than one.
fn set_cookie(metadata: &MetadataMap) -> Option<(String, Vec<String>)> {
    let mut set = set_cookies(metadata);
    set.retain(|(_, attributes)| !is_removal(attributes));
    assert!(set.len() < 2, "one cookie at a time");
    set.pop()
}

/// Returns whether a response clears the cookie with this name and these attributes.
fn clears(metadata: &MetadataMap, name: &str, attributes: &[&str]) -> bool {
    let pair = format!("{name}=");
    let is_it = |(cleared, with): &(String, Vec<String>)| {
        *cleared == pair && is_removal(with) && attributes.iter().all(|each| with.contains(&(*each).to_owned()))
    };
    set_cookies(metadata).iter().any(is_it)
}

fn clears_the_cookie(metadata: &MetadataMap) -> bool {
    clears(metadata, COOKIE, &["Path=/", "Secure"]) && clears(metadata, LEGACY_COOKIE, &["Path=/v1/auth", "Secure"])
}

/// Registers a user from the page. Returns the cookie, and the tokens that scripts can see.
async fn registered(server: &Server) -> (String, TokenPair) {
    let answer = server.auth().register(from_page(registration("ann"), PAGE, &[])).await;
    let answer = answer.expect("registered");
    let (cookie, _) = set_cookie(answer.metadata()).expect("a cookie");
    (cookie, answer.into_inner().tokens.expect("tokens"))
}

fn rotation() -> RotateTokensRequest {
    RotateTokensRequest::default()
}

#[on_both_backends]
async fn the_refresh_token_of_a_page_is_only_in_its_cookie(database: TestDatabase) {
    let server = start(database).await;
    let (cookie, tokens) = registered(&server).await;
    assert_eq!(tokens.refresh_token, "");
    assert_eq!(tokens.refresh_expires_in, 604_800);
    assert!(cookie.starts_with(&format!("{COOKIE}=v1.")), "{cookie}");

    let answer = server
        .auth()
        .login(from_page(credentials("ann", PASSWORD), PAGE, &[]))
        .await
        .expect("logged in");
    let (other, attributes) = set_cookie(answer.metadata()).expect("a cookie");
    assert_eq!(
        attributes,
        ["HttpOnly", "Max-Age=604800", "Path=/", "SameSite=Strict", "Secure"]
    );
    assert_ne!(cookie, other);
    assert_eq!(answer.into_inner().tokens.expect("tokens").refresh_token, "");
}

#[on_both_backends]
async fn without_tls_the_cookie_has_another_name_and_is_not_secure(database: TestDatabase) {
    let server = start(database).await;
    let answer = server
        .auth()
        .register(from_page(registration("ann"), LOCAL_PAGE, &[]))
        .await
        .expect("registered");
    let (cookie, attributes) = set_cookie(answer.metadata()).expect("a cookie");
    assert!(cookie.starts_with("refresh_token=v1."), "{cookie}");
    assert_eq!(
        attributes,
        ["HttpOnly", "Max-Age=604800", "Path=/v1/auth", "SameSite=Strict"]
    );
    // The two cookies are not interchangeable.
    let as_secure = cookie.replace("refresh_token", COOKIE);
    let refused = server
        .auth()
        .rotate_tokens(from_page(rotation(), LOCAL_PAGE, &[&as_secure]))
        .await
        .expect_err("no cookie");
    assert_eq!(bad_fields(&refused), ["refresh_token"]);
    server
        .auth()
        .rotate_tokens(from_page(rotation(), LOCAL_PAGE, &[&cookie]))
        .await
        .expect("rotated");
}

#[on_both_backends]
async fn a_page_stays_logged_in_by_its_cookie(database: TestDatabase) {
    let server = start(database).await;
    let (cookie, _) = registered(&server).await;
    let refreshed = server
        .auth()
        .refresh_access_token(from_page(
            RefreshAccessTokenRequest::default(),
            PAGE,
            &["theme=dark", &cookie],
        ))
        .await
        .expect("refreshed");
    assert!(
        set_cookies(refreshed.metadata()).is_empty(),
        "the token is still the same"
    );

    let crumbs = format!("a=b; {cookie}; c=d");
    let rotated = server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&crumbs]))
        .await
        .expect("rotated");
    let (next, _) = set_cookie(rotated.metadata()).expect("a cookie");
    assert_ne!(cookie, next);
    assert_eq!(rotated.into_inner().tokens.expect("tokens").refresh_token, "");
    server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&next]))
        .await
        .expect("rotated again");

    // Reusing the first cookie ends the session and clears the cookie.
    let reused = server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&cookie]))
        .await
        .expect_err("reused");
    assert_eq!(
        (reused.code(), reason(&reused).as_str()),
        (Code::Unauthenticated, "REFRESH_TOKEN_REUSED")
    );
    assert!(clears_the_cookie(reused.metadata()), "{reused:?}");
}

#[on_both_backends]
async fn an_overlapping_rotation_leaves_the_cookie_unchanged(database: TestDatabase) {
    let server = start(database).await;
    let (cookie, _) = registered(&server).await;
    server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&cookie]))
        .await
        .expect("rotated");
    let overlap = server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&cookie]))
        .await
        .expect_err("overlaps");
    assert_eq!(overlap.code(), Code::Aborted);
    assert!(
        set_cookies(overlap.metadata()).is_empty(),
        "the other call's cookie is good"
    );
}

#[on_both_backends]
async fn logging_out_clears_the_cookie(database: TestDatabase) {
    let server = start(database).await;
    let (cookie, _) = registered(&server).await;
    let ended = server
        .auth()
        .logout(from_page(LogoutRequest::default(), PAGE, &[&cookie]))
        .await
        .expect("logged out");
    assert!(clears_the_cookie(ended.metadata()));
    let refused = server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&cookie]))
        .await
        .expect_err("ended");
    assert_eq!(reason(&refused), "SESSION_ENDED");
    assert!(clears_the_cookie(refused.metadata()));

    let page = || from_page(credentials("ann", PASSWORD), PAGE, &[]);
    let login = server.auth().login(page()).await.expect("logged in");
    let (cookie, _) = set_cookie(login.metadata()).expect("a cookie");
    let revoked = server
        .auth()
        .revoke_token(from_page(RevokeTokenRequest::default(), PAGE, &[&cookie]))
        .await
        .expect("revoked");
    assert!(clears_the_cookie(revoked.metadata()));

    let tokens = server
        .auth()
        .login(page())
        .await
        .expect("logged in")
        .into_inner()
        .tokens
        .expect("tokens");
    let request = signed_in(from_page(RevokeAllTokensRequest {}, PAGE, &[]), &tokens);
    let ended = server.auth().revoke_all_tokens(request).await.expect("revoked");
    assert!(clears_the_cookie(ended.metadata()));

    let tokens = server
        .auth()
        .login(page())
        .await
        .expect("logged in")
        .into_inner()
        .tokens
        .expect("tokens");
    let request = DeleteMeRequest {
        current_password: PASSWORD.to_owned(),
        ..DeleteMeRequest::default()
    };
    let request = signed_in(from_page(request, PAGE, &[]), &tokens);
    let deleted = server.account().delete_me(request).await.expect("deleted");
    assert!(clears_the_cookie(deleted.metadata()));
}

#[on_both_backends]
async fn changing_the_password_sets_a_new_cookie(database: TestDatabase) {
    let server = start(database).await;
    let (cookie, tokens) = registered(&server).await;
    let request = ChangePasswordRequest {
        current_password: PASSWORD.to_owned(),
        new_password: "battery staple".to_owned(),
        new_password_confirmation: "battery staple".to_owned(),
    };
    let request = signed_in(from_page(request, PAGE, &[]), &tokens);
    let changed = server.account().change_password(request).await.expect("changed");
    let (next, _) = set_cookie(changed.metadata()).expect("a cookie");
    assert_ne!(cookie, next);
    assert_eq!(changed.into_inner().tokens.expect("tokens").refresh_token, "");
    server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&next]))
        .await
        .expect("rotated");
}

#[on_both_backends]
async fn other_origins_can_neither_get_nor_use_a_cookie(database: TestDatabase) {
    let server = start(database).await;
    let (cookie, _) = registered(&server).await;
    for origin in [
        "https://evil.example",
        "null",
        "http://play.example.com",
        "https://play.example.com:8443",
        "*",
        "",
    ] {
        let refused = server
            .auth()
            .rotate_tokens(from_page(rotation(), origin, &[&cookie]))
            .await
            .expect_err("another origin");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::PermissionDenied, "ORIGIN_NOT_ALLOWED"),
            "{origin}"
        );
        let refused = server
            .auth()
            .login(from_page(credentials("ann", PASSWORD), origin, &[]))
            .await
            .expect_err("another origin");
        assert_eq!(reason(&refused), "ORIGIN_NOT_ALLOWED", "{origin}");
    }
    let mut without = from_page(rotation(), PAGE, &[&cookie]);
    without.metadata_mut().remove("origin");
    let refused = server.auth().rotate_tokens(without).await.expect_err("no origin");
    assert_eq!(reason(&refused), "ORIGIN_NOT_ALLOWED");
    let mut twice = from_page(rotation(), PAGE, &[&cookie]);
    twice
        .metadata_mut()
        .append("origin", "https://evil.example".parse().expect("ASCII"));
    let refused = server.auth().rotate_tokens(twice).await.expect_err("two origins");
    assert_eq!(reason(&refused), "ORIGIN_NOT_ALLOWED");
    // None of these calls affected the session.
    server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&cookie]))
        .await
        .expect("rotated");
}

#[on_both_backends]
async fn a_cookie_is_ignored_without_the_token_transport_header(database: TestDatabase) {
    let server = start(database).await;
    let (cookie, _) = registered(&server).await;
    // A form on another site would send the call like this: with the cookie, but without the
    // header.
    let mut plain = from_page(rotation(), PAGE, &[&cookie]);
    plain.metadata_mut().remove("x-token-transport");
    let refused = server.auth().rotate_tokens(plain).await.expect_err("no token");
    assert_eq!(bad_fields(&refused), ["refresh_token"]);
    let mut plain = from_page(LogoutRequest::default(), PAGE, &[&cookie]);
    plain.metadata_mut().remove("x-token-transport");
    let refused = server.auth().logout(plain).await.expect_err("no token");
    assert_eq!(reason(&refused), "TOKEN_MISSING");

    let mut other = from_page(rotation(), PAGE, &[&cookie]);
    other
        .metadata_mut()
        .insert("x-token-transport", "header".parse().expect("ASCII"));
    let refused = server.auth().rotate_tokens(other).await.expect_err("no such transport");
    assert_eq!(
        (refused.code(), bad_fields(&refused)),
        (Code::InvalidArgument, vec!["x-token-transport".to_owned()])
    );

    // A token in the request field takes precedence over the cookie.
    let named = RotateTokensRequest {
        refresh_token: "v1.x".to_owned(),
        ..rotation()
    };
    let refused = server
        .auth()
        .rotate_tokens(from_page(named, PAGE, &[&cookie]))
        .await
        .expect_err("another token");
    assert_eq!(reason(&refused), "REFRESH_TOKEN_INVALID");
    assert!(set_cookies(refused.metadata()).is_empty(), "the cookie is good");
    server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&cookie]))
        .await
        .expect("rotated");
}

#[on_both_backends]
async fn a_planted_cookie_does_not_lock_the_user_out(database: TestDatabase) {
    let server = start(database).await;
    let (mut cookie, _) = registered(&server).await;
    // Browsers should not let another site plant a `__Host-` cookie. The server does not rely on
    // that.
    let planted = format!("{COOKIE}=v1.planted");
    let many: Vec<String> = (0..100).map(|number| format!("{COOKIE}=v1.{number}")).collect();
    let many = many.join("; ");
    for planted in [[planted.as_str(), ""], ["", &planted], ["", &many], [&many, &planted]] {
        let rotated = server
            .auth()
            .rotate_tokens(from_page(rotation(), PAGE, &[planted[0], &cookie, planted[1]]))
            .await;
        cookie = set_cookie(rotated.expect("rotated").metadata()).expect("a cookie").0;
    }
    server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&cookie, &cookie]))
        .await
        .expect("the same twice");
}

#[on_both_backends]
async fn unrelated_cookies_may_hold_any_text(database: TestDatabase) {
    let server = start(database).await;
    let (cookie, _) = registered(&server).await;
    let between = format!("n=ü; {cookie}; größe=1");
    let rotated = server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&between]))
        .await
        .expect("rotated");
    let (cookie, _) = set_cookie(rotated.metadata()).expect("a cookie");
    // A non-ASCII space is part of the name, so this is a different cookie.
    let planted = format!("\u{a0}{COOKIE}=v1.planted");
    let refused = server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&planted]))
        .await
        .expect_err("no cookie");
    assert_eq!(bad_fields(&refused), ["refresh_token"]);
    let logout = from_page(LogoutRequest::default(), PAGE, &["n=ü", &cookie]);
    server.auth().logout(logout).await.expect("logged out");
}

#[on_both_backends]
async fn cookies_planted_by_a_neighbouring_site_are_cleared(database: TestDatabase) {
    let server = start(database).await;
    let (cookie, _) = registered(&server).await;
    let own = cookie.replace(COOKIE, LEGACY_COOKIE);
    let planted = format!("{LEGACY_COOKIE}=v1.planted");
    let rotated = server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&planted, &own]))
        .await
        .expect("rotated");
    for attributes in [
        ["Path=/", "Domain=example.com"],
        ["Path=/v1/auth/rotate", "Domain=play.example.com"],
    ] {
        assert!(clears(rotated.metadata(), LEGACY_COOKIE, &attributes), "{attributes:?}");
    }
    let (cookie, _) = set_cookie(rotated.metadata()).expect("a cookie");
    assert!(cookie.starts_with(COOKIE), "{cookie}");

    let answer = server
        .auth()
        .login(from_page(credentials("ann", PASSWORD), LOCAL_PAGE, &[]))
        .await
        .expect("logged in");
    let (own, _) = set_cookie(answer.metadata()).expect("a cookie");
    let rotated = server
        .auth()
        .rotate_tokens(from_page(rotation(), LOCAL_PAGE, &["refresh_token=x", &own]))
        .await
        .expect("rotated");
    assert!(clears(rotated.metadata(), "refresh_token", &["Path=/"]));
    assert!(
        !clears(rotated.metadata(), "refresh_token", &["Path=/v1/auth"]),
        "that is the new one"
    );
}

#[on_both_backends]
async fn the_cookie_of_the_previous_version_is_read_and_replaced(database: TestDatabase) {
    let server = start(database).await;
    let (cookie, _) = registered(&server).await;
    let before = cookie.replace(COOKIE, LEGACY_COOKIE);
    let refresh = RefreshAccessTokenRequest::default();
    server
        .auth()
        .refresh_access_token(from_page(refresh, PAGE, &[&before]))
        .await
        .expect("refreshed");
    let rotated = server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&before]))
        .await
        .expect("rotated");
    let (cookie, _) = set_cookie(rotated.metadata()).expect("a cookie");
    assert!(cookie.starts_with(COOKIE), "{cookie}");
    assert!(clears(rotated.metadata(), LEGACY_COOKIE, &["Path=/v1/auth", "Secure"]));
    // The old cookie alone would count as reuse. It is ignored because the new cookie is present.
    server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&before, &cookie]))
        .await
        .expect("rotated again");
}

#[on_both_backends]
async fn an_old_cookie_beside_the_current_one_is_not_a_reuse(database: TestDatabase) {
    let server = start(database).await;
    let (first, _) = registered(&server).await;
    let mut cookie = first.clone();
    for _ in 0..2 {
        let rotated = server
            .auth()
            .rotate_tokens(from_page(rotation(), PAGE, &[&cookie]))
            .await
            .expect("rotated");
        cookie = set_cookie(rotated.metadata()).expect("a cookie").0;
    }
    for cookies in [[&first, &cookie], [&cookie, &first]] {
        let refresh = RefreshAccessTokenRequest::default();
        server
            .auth()
            .refresh_access_token(from_page(refresh, PAGE, &cookies.map(String::as_str)))
            .await
            .expect("refreshed");
    }
}

#[on_both_backends]
async fn a_planted_cookie_cannot_switch_the_user_to_another_account(database: TestDatabase) {
    let server = start(database).await;
    let (cookie, _) = registered(&server).await;
    let answer = server
        .auth()
        .register(from_page(registration("mallory"), PAGE, &[]))
        .await
        .expect("registered");
    let (planted, _) = set_cookie(answer.metadata()).expect("a cookie");
    let planted = planted.replace(COOKIE, LEGACY_COOKIE);
    // A neighbouring site cannot plant a cookie with the `__Host-` prefix, so that cookie wins.
    let rotated = server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&planted, &cookie]))
        .await
        .expect("rotated");
    let (cookie, _) = set_cookie(rotated.metadata()).expect("a cookie");

    let before = cookie.replace(COOKIE, LEGACY_COOKIE);
    let refused = server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&planted, &before]))
        .await
        .expect_err("whose?");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "REFRESH_TOKEN_INVALID")
    );
    assert!(clears_the_cookie(refused.metadata()));
    // Neither session has ended. After a new login, the planted cookie is ignored.
    server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&cookie]))
        .await
        .expect("rotated");
    let login = server
        .auth()
        .login(from_page(credentials("ann", PASSWORD), PAGE, &[&planted]))
        .await
        .expect("logged in");
    let (cookie, _) = set_cookie(login.metadata()).expect("a cookie");
    server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&planted, &cookie]))
        .await
        .expect("rotated");
    server
        .auth()
        .rotate_tokens(from_page(rotation(), PAGE, &[&planted]))
        .await
        .expect("mallory's session lives");
}

#[on_both_backends]
async fn of_several_sessions_of_one_user_the_live_one_rotated_last_is_used(database: TestDatabase) {
    let server = start(database).await;
    registered(&server).await;
    let login = async || {
        server.clock.advance(Duration::from_secs(1));
        let request = from_page(credentials("ann", PASSWORD), PAGE, &[]);
        let answer = server.auth().login(request).await.expect("logged in");
        let (cookie, _) = set_cookie(answer.metadata()).expect("a cookie");
        (cookie, answer.into_inner().tokens.expect("tokens"))
    };
    // Returns the session whose token the server picks.
    let used = async |cookies: &[&str]| {
        let request = from_page(RefreshAccessTokenRequest::default(), PAGE, cookies);
        let fresh = server.auth().refresh_access_token(request).await?.into_inner();
        let request = with_token(ListMySessionsRequest::default(), &fresh.access_token);
        let sessions = server.account().list_my_sessions(request).await?.into_inner().sessions;
        let current = sessions.into_iter().find(|session| session.is_current);
        Ok::<_, Status>(current.expect("the current session").session_id)
    };
    let [older, newer, (ended, tokens)] = [login().await, login().await, login().await];
    let expected = used(&[newer.0.as_str()]).await.expect("refreshed");
    let logout = signed_in(from_page(LogoutRequest::default(), PAGE, &[&ended]), &tokens);
    server.auth().logout(logout).await.expect("logged out");
    let mut cookies = vec![older.0.as_str(), newer.0.as_str(), ended.as_str()];
    for _ in 0..8 {
        cookies.rotate_left(1);
        assert_eq!(used(&cookies).await.expect("refreshed"), expected);
    }

    // Eight sessions may come together, and no more.
    let mut more = Vec::new();
    for _ in 0..6 {
        more.push(login().await.0);
    }
    let expected = used(&[more[4].as_str()]).await.expect("refreshed");
    cookies.extend(more.iter().map(String::as_str));
    assert_eq!(used(&cookies[..8]).await.expect("refreshed"), expected);
    assert_eq!(
        reason(&used(&cookies).await.expect_err("nine")),
        "REFRESH_TOKEN_INVALID"
    );
}

#[on_both_backends]
async fn cookies_are_refused_unless_an_origin_is_configured(database: TestDatabase) {
    let server = Server::start(database).await;
    let refused = server
        .auth()
        .register(from_page(registration("ann"), PAGE, &[]))
        .await
        .expect_err("no origins");
    assert_eq!(reason(&refused), "ORIGIN_NOT_ALLOWED");
    server.clock.advance(Duration::from_secs(1));
    let tokens = server.register("ann").await.tokens.expect("tokens");
    assert!(tokens.refresh_token.starts_with("v1."));
}
