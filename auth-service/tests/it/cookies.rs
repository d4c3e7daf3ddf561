//! The refresh token in a cookie: who gets one, what is in it, and that nothing else can read or use it.

use std::time::Duration;

use shared::{
    proto::auth::v1::{
        ChangePasswordRequest, DeleteMeRequest, LogoutRequest, RefreshAccessTokenRequest, RevokeAllTokensRequest,
        RevokeTokenRequest, RotateTokensRequest, TokenPair,
    },
    testing::{
        TestDatabase, on_both_backends,
        rpc::{bad_fields, reason},
    },
};
use tonic::{Code, Request, metadata::MetadataMap};

use crate::support::{PASSWORD, Server, credentials, registration, settings};

const PAGE: &str = "https://play.example.com";
const LOCAL_PAGE: &str = "http://localhost:8080";
const COOKIE: &str = "__Secure-refresh_token";

async fn start(database: TestDatabase) -> Server {
    let origins = format!("{PAGE},{LOCAL_PAGE}");
    Server::start_with(database, &settings(&["--cookie-origins", &origins])).await
}

/// A call as a page of this origin makes it, with the cookies of its browser.
fn from_page<T>(message: T, origin: &str, cookies: &[&str]) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("x-token-transport", "cookie".parse().expect("ASCII"));
    metadata.insert("origin", origin.parse().expect("ASCII"));
    for cookie in cookies {
        metadata.append("cookie", cookie.parse().expect("ASCII"));
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

/// The one cookie that an answer sets: `name=value`, and its attributes in order.
fn set_cookie(metadata: &MetadataMap) -> Option<(String, Vec<String>)> {
    let mut set = metadata.get_all("set-cookie").iter();
    let text = set.next()?.to_str().expect("ASCII").to_owned();
    assert!(set.next().is_none(), "one cookie at a time");
    let mut parts = text.split("; ").map(str::to_owned);
    let pair = parts.next().expect("a name and a value");
    let mut attributes: Vec<String> = parts.collect();
    attributes.sort();
    Some((pair, attributes))
}

fn takes_the_cookie_away(metadata: &MetadataMap) -> bool {
    set_cookie(metadata)
        .is_some_and(|(pair, attributes)| pair == format!("{COOKIE}=") && attributes.contains(&"Max-Age=0".to_owned()))
}

/// A user who registered on the page: the cookie, and the tokens that script can see.
async fn registered(server: &Server) -> (String, TokenPair) {
    let answer = server.auth().register(from_page(registration("ann"), PAGE, &[])).await;
    let answer = answer.expect("registered");
    let (cookie, _) = set_cookie(answer.metadata()).expect("a cookie");
    (cookie, answer.into_inner().tokens.expect("tokens"))
}

fn rotation() -> RotateTokensRequest {
    RotateTokensRequest::default()
}

on_both_backends! {
    migrations = auth_service::MIGRATIONS;

    async fn the_refresh_token_of_a_page_is_in_its_cookie_alone(database: TestDatabase) {
        let server = start(database).await;
        let (cookie, tokens) = registered(&server).await;
        assert_eq!(tokens.refresh_token, "");
        assert_eq!(tokens.refresh_expires_in, 604_800);
        assert!(cookie.starts_with(&format!("{COOKIE}=v1.")), "{cookie}");

        let answer = server.auth().login(from_page(credentials("ann", PASSWORD), PAGE, &[])).await.expect("logged in");
        let (other, attributes) = set_cookie(answer.metadata()).expect("a cookie");
        assert_eq!(attributes, ["HttpOnly", "Max-Age=604800", "Path=/v1/auth", "SameSite=Strict", "Secure"]);
        assert_ne!(cookie, other);
        assert_eq!(answer.into_inner().tokens.expect("tokens").refresh_token, "");
    }

    async fn without_tls_the_cookie_is_another_and_not_secure(database: TestDatabase) {
        let server = start(database).await;
        let answer = server.auth().register(from_page(registration("ann"), LOCAL_PAGE, &[])).await.expect("registered");
        let (cookie, attributes) = set_cookie(answer.metadata()).expect("a cookie");
        assert!(cookie.starts_with("refresh_token=v1."), "{cookie}");
        assert_eq!(attributes, ["HttpOnly", "Max-Age=604800", "Path=/v1/auth", "SameSite=Strict"]);
        // Neither is taken for the other.
        let as_secure = cookie.replace("refresh_token", COOKIE);
        let refused = server.auth().rotate_tokens(from_page(rotation(), LOCAL_PAGE, &[&as_secure])).await.expect_err("no cookie");
        assert_eq!(bad_fields(&refused), ["refresh_token"]);
        server.auth().rotate_tokens(from_page(rotation(), LOCAL_PAGE, &[&cookie])).await.expect("rotated");
    }

    async fn a_page_stays_logged_in_by_its_cookie(database: TestDatabase) {
        let server = start(database).await;
        let (cookie, _) = registered(&server).await;
        let refreshed = server
            .auth()
            .refresh_access_token(from_page(RefreshAccessTokenRequest::default(), PAGE, &["theme=dark", &cookie]))
            .await
            .expect("refreshed");
        assert!(set_cookie(refreshed.metadata()).is_none(), "the token is still the same");

        let crumbs = format!("a=b; {cookie}; c=d");
        let rotated = server.auth().rotate_tokens(from_page(rotation(), PAGE, &[&crumbs])).await.expect("rotated");
        let (next, _) = set_cookie(rotated.metadata()).expect("a cookie");
        assert_ne!(cookie, next);
        assert_eq!(rotated.into_inner().tokens.expect("tokens").refresh_token, "");
        server.auth().rotate_tokens(from_page(rotation(), PAGE, &[&next])).await.expect("rotated again");

        // The first one comes back: the session ends, and the cookie goes.
        let reused = server.auth().rotate_tokens(from_page(rotation(), PAGE, &[&cookie])).await.expect_err("reused");
        assert_eq!((reused.code(), reason(&reused).as_str()), (Code::Unauthenticated, "REFRESH_TOKEN_REUSED"));
        assert!(takes_the_cookie_away(reused.metadata()), "{reused:?}");
    }

    async fn an_overlap_leaves_the_cookie_alone(database: TestDatabase) {
        let server = start(database).await;
        let (cookie, _) = registered(&server).await;
        server.auth().rotate_tokens(from_page(rotation(), PAGE, &[&cookie])).await.expect("rotated");
        let overlap = server.auth().rotate_tokens(from_page(rotation(), PAGE, &[&cookie])).await.expect_err("overlaps");
        assert_eq!(overlap.code(), Code::Aborted);
        assert!(set_cookie(overlap.metadata()).is_none(), "the other call's cookie is good");
    }

    async fn logging_out_takes_the_cookie_away(database: TestDatabase) {
        let server = start(database).await;
        let (cookie, _) = registered(&server).await;
        let ended = server.auth().logout(from_page(LogoutRequest::default(), PAGE, &[&cookie])).await.expect("logged out");
        assert!(takes_the_cookie_away(ended.metadata()));
        let refused = server.auth().rotate_tokens(from_page(rotation(), PAGE, &[&cookie])).await.expect_err("ended");
        assert_eq!(reason(&refused), "SESSION_ENDED");
        assert!(takes_the_cookie_away(refused.metadata()));

        let page = || from_page(credentials("ann", PASSWORD), PAGE, &[]);
        let login = server.auth().login(page()).await.expect("logged in");
        let (cookie, _) = set_cookie(login.metadata()).expect("a cookie");
        let revoked = server.auth().revoke_token(from_page(RevokeTokenRequest::default(), PAGE, &[&cookie])).await.expect("revoked");
        assert!(takes_the_cookie_away(revoked.metadata()));

        let tokens = server.auth().login(page()).await.expect("logged in").into_inner().tokens.expect("tokens");
        let request = signed_in(from_page(RevokeAllTokensRequest {}, PAGE, &[]), &tokens);
        let ended = server.auth().revoke_all_tokens(request).await.expect("revoked");
        assert!(takes_the_cookie_away(ended.metadata()));

        let tokens = server.auth().login(page()).await.expect("logged in").into_inner().tokens.expect("tokens");
        let request = DeleteMeRequest { current_password: PASSWORD.to_owned() };
        let request = signed_in(from_page(request, PAGE, &[]), &tokens);
        let deleted = server.account().delete_me(request).await.expect("deleted");
        assert!(takes_the_cookie_away(deleted.metadata()));
    }

    async fn a_changed_password_comes_with_a_new_cookie(database: TestDatabase) {
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
        server.auth().rotate_tokens(from_page(rotation(), PAGE, &[&next])).await.expect("rotated");
    }

    async fn another_origin_gets_no_cookie_and_uses_none(database: TestDatabase) {
        let server = start(database).await;
        let (cookie, _) = registered(&server).await;
        for origin in ["https://evil.example", "null", "http://play.example.com", "https://play.example.com:8443", "*", ""] {
            let refused = server.auth().rotate_tokens(from_page(rotation(), origin, &[&cookie])).await.expect_err("another origin");
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "ORIGIN_NOT_ALLOWED"), "{origin}");
            let refused = server.auth().login(from_page(credentials("ann", PASSWORD), origin, &[])).await.expect_err("another origin");
            assert_eq!(reason(&refused), "ORIGIN_NOT_ALLOWED", "{origin}");
        }
        let mut without = from_page(rotation(), PAGE, &[&cookie]);
        without.metadata_mut().remove("origin");
        let refused = server.auth().rotate_tokens(without).await.expect_err("no origin");
        assert_eq!(reason(&refused), "ORIGIN_NOT_ALLOWED");
        let mut twice = from_page(rotation(), PAGE, &[&cookie]);
        twice.metadata_mut().append("origin", "https://evil.example".parse().expect("ASCII"));
        let refused = server.auth().rotate_tokens(twice).await.expect_err("two origins");
        assert_eq!(reason(&refused), "ORIGIN_NOT_ALLOWED");
        // Nothing of that has touched the session.
        server.auth().rotate_tokens(from_page(rotation(), PAGE, &[&cookie])).await.expect("rotated");
    }

    async fn a_cookie_counts_only_where_it_is_asked_for(database: TestDatabase) {
        let server = start(database).await;
        let (cookie, _) = registered(&server).await;
        // As the form of another site would send it.
        let mut plain = from_page(rotation(), PAGE, &[&cookie]);
        plain.metadata_mut().remove("x-token-transport");
        let refused = server.auth().rotate_tokens(plain).await.expect_err("no token");
        assert_eq!(bad_fields(&refused), ["refresh_token"]);
        let mut plain = from_page(LogoutRequest::default(), PAGE, &[&cookie]);
        plain.metadata_mut().remove("x-token-transport");
        let refused = server.auth().logout(plain).await.expect_err("no token");
        assert_eq!(reason(&refused), "TOKEN_MISSING");

        let mut other = from_page(rotation(), PAGE, &[&cookie]);
        other.metadata_mut().insert("x-token-transport", "header".parse().expect("ASCII"));
        let refused = server.auth().rotate_tokens(other).await.expect_err("no such transport");
        assert_eq!((refused.code(), bad_fields(&refused)), (Code::InvalidArgument, vec!["x-token-transport".to_owned()]));

        // A field that is filled counts before the cookie.
        let named = RotateTokensRequest { refresh_token: "v1.x".to_owned(), ..rotation() };
        let refused = server.auth().rotate_tokens(from_page(named, PAGE, &[&cookie])).await.expect_err("another token");
        assert_eq!(reason(&refused), "REFRESH_TOKEN_INVALID");
        assert!(set_cookie(refused.metadata()).is_none(), "the cookie is good");
        server.auth().rotate_tokens(from_page(rotation(), PAGE, &[&cookie])).await.expect("rotated");
    }

    async fn of_two_cookies_none_counts(database: TestDatabase) {
        let server = start(database).await;
        let (cookie, _) = registered(&server).await;
        let planted = format!("{COOKIE}=v1.planted");
        for cookies in [[planted.as_str(), &cookie], [&cookie, &planted], [&cookie, &cookie]] {
            let refused = server.auth().rotate_tokens(from_page(rotation(), PAGE, &cookies)).await.expect_err("two cookies");
            assert_eq!((refused.code(), bad_fields(&refused)), (Code::InvalidArgument, vec!["cookie".to_owned()]));
        }
        server.auth().rotate_tokens(from_page(rotation(), PAGE, &[&cookie])).await.expect("the session lives");
    }

    async fn nobody_gets_a_cookie_unless_a_setting_says_so(database: TestDatabase) {
        let server = Server::start(database).await;
        let refused = server.auth().register(from_page(registration("ann"), PAGE, &[])).await.expect_err("no origins");
        assert_eq!(reason(&refused), "ORIGIN_NOT_ALLOWED");
        server.clock.advance(Duration::from_secs(1));
        let tokens = server.register("ann").await.tokens.expect("tokens");
        assert!(tokens.refresh_token.starts_with("v1."));
    }
}
