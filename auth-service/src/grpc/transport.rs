//! Transport of the refresh token: in messages, or for pages in a browser, in a cookie that no
//! script can read.
//!
//! A page asks for the cookie with the header `x-token-transport: cookie`. Without it, cookies are
//! ignored, because a browser adds them to every request, whichever page makes it. With it, the
//! browser's `origin` must be an allowed one. The page of another site cannot meet this: the header
//! makes the browser ask the server first (CORS), and a page cannot choose its origin. The cookie
//! has the attributes of RFC 6265bis for a credential: HttpOnly, Secure, SameSite=Strict, and the
//! prefix `__Host-`.
//!
//! A site with a neighbouring name can plant a cookie of the same name, unless the name has that
//! prefix. Planted cookies must not lock anyone out, so all values are read and the genuine one is
//! used.

use std::{sync::Arc, time::Duration};

use base::{error::ErrorReply, validate::InvalidFields};
use cookie::{Cookie, CookieBuilder, SameSite};
use proto::auth::v1::{ErrorReason, TokenPair};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
};
use url::Url;

use crate::{
    config::CookieSettings,
    domain::{Error, Sessions},
};

const TRANSPORT: &str = "x-token-transport";
const ORIGIN: &str = "origin";
const COOKIE: &str = "cookie";
const SET_COOKIE: &str = "set-cookie";

/// Name of the cookie without TLS, for development.
const NAME: &str = "refresh_token";
/// Name of the cookie over TLS. Browsers accept a cookie with this prefix only from the host
/// itself, and only with `Path=/` (RFC 6265bis, section 4.1.3.2). The gateway passes it on only
/// with calls under [`PATH`].
const HOST_NAME: &str = "__Host-refresh_token";
/// Former name of the cookie over TLS, before [`HOST_NAME`]. It is read if the cookie with the new
/// name is missing, and cleared when that one is set.
///
/// The first rotation by this version renames the cookie. So a cookie with the former name lives
/// for at most `--refresh-token-seconds` after an upgrade: 7 days by default, and never more than a
/// year. The name can be removed in a release that comes at least a year after 0.2.0, the first one
/// that sets [`HOST_NAME`].
const LEGACY_NAME: &str = "__Secure-refresh_token";
/// Path of the calls that read the cookie (refresh, rotate, logout, revoke), and of a few others.
const PATH: &str = "/v1/auth";
/// Paths with which a planted cookie reaches one of those calls.
const PLANTED_PATHS: [&str; 9] = [
    "/",
    "/v1",
    "/v1/",
    PATH,
    "/v1/auth/",
    "/v1/auth/refresh",
    "/v1/auth/rotate",
    "/v1/auth/logout",
    "/v1/auth/revoke",
];
/// Maximum number of domains for which planted cookies are cleared, besides the host itself. More
/// would make the response too large for proxies.
const MAX_PLANTED_DOMAINS: usize = 2;

/// Transports that the settings allow.
#[derive(Clone, Debug)]
pub(crate) struct Transports(Arc<CookieSettings>);

/// The transport of one call.
#[derive(Debug)]
pub(super) enum Transport {
    /// The refresh token is a field of the messages.
    Message,
    /// The refresh token is in a cookie.
    Cookie {
        /// Whether the page was loaded over TLS.
        secure: bool,
        /// Values of the cookie that the browser sent, each once.
        presented: Vec<String>,
        /// Whether the call uses one of these values.
        used: bool,
        /// `Set-Cookie` headers that clear planted cookies. Empty unless the browser sent several.
        clear_planted: Vec<MetadataValue<Ascii>>,
    },
}

impl Transports {
    pub(crate) fn new(settings: CookieSettings) -> Self {
        Self(Arc::new(settings))
    }

    /// Returns the transport that the request asks for.
    ///
    /// Errors: INVALID_ARGUMENT if there is no such transport; PERMISSION_DENIED
    /// (ORIGIN_NOT_ALLOWED).
    pub(super) fn of<T>(&self, request: &Request<T>) -> Result<Transport, Status> {
        let metadata = request.metadata();
        let Some(transport) = metadata.get(TRANSPORT) else {
            return Ok(Transport::Message);
        };
        if transport != "cookie" {
            return Err(InvalidFields::one(TRANSPORT, "must be `cookie` or absent").into());
        }
        let mut origins = metadata.get_all(ORIGIN).iter().map(MetadataValue::to_str);
        match (origins.next(), origins.next()) {
            (Some(Ok(origin)), None) if self.0.allows(origin) => Ok(Transport::cookie(metadata, origin)),
            _ => Err(ErrorReply::new(
                Code::PermissionDenied,
                ErrorReason::OriginNotAllowed,
                "pages of this origin cannot keep their refresh token in a cookie; the operator can allow it with \
                --cookie-origins",
            )
            .into()),
        }
    }
}

impl Transport {
    fn cookie(metadata: &MetadataMap, origin: &str) -> Self {
        let secure = origin.starts_with("https://");
        let (name, plantable) = if secure { (HOST_NAME, LEGACY_NAME) } else { (NAME, NAME) };
        let mut presented = values(metadata, name);
        if presented.is_empty() && secure {
            presented = values(metadata, LEGACY_NAME);
        }
        presented.sort_unstable();
        presented.dedup();
        let is_planted = values(metadata, plantable).len() > 1;
        Self::Cookie {
            secure,
            presented,
            used: false,
            clear_planted: if is_planted {
                clear_planted(plantable, origin)
            } else {
                Vec::new()
            },
        }
    }

    /// Fills in the genuine one of the presented cookies if the message has no token.
    ///
    /// Errors: UNAUTHENTICATED (REFRESH_TOKEN_INVALID) if there are several and none can be used.
    pub(super) async fn fill(&mut self, token: &mut String, sessions: &Sessions) -> Result<(), Status> {
        if let Self::Cookie { presented, used, .. } = self
            && token.is_empty()
            && !presented.is_empty()
        {
            *used = true;
            let genuine = sessions.pick_genuine(std::mem::take(presented)).await;
            *token = genuine.map_err(|error| self.refuse(error))?;
        }
        Ok(())
    }

    /// Returns what is wrong with a call that has brought no refresh token.
    pub(super) const fn missing(&self) -> &'static str {
        match self {
            Self::Cookie { .. } => "is required: neither the message nor a cookie has one",
            Self::Message => "is required",
        }
    }

    /// Returns the response that delivers these tokens.
    pub(super) fn deliver<T>(&self, mut tokens: TokenPair, message: impl FnOnce(TokenPair) -> T) -> Response<T> {
        let Self::Cookie { secure, .. } = *self else {
            return Response::new(message(tokens));
        };
        let token = std::mem::take(&mut tokens.refresh_token);
        let life = Duration::from_secs(tokens.refresh_expires_in.unsigned_abs().into());
        let cookie = set_cookie(secure, &token, life);
        let mut response = Response::new(message(tokens));
        self.forget_others(response.metadata_mut());
        response.metadata_mut().append(SET_COOKIE, cookie);
        response
    }

    /// Returns the response to a call that has ended the session. It clears the cookie.
    pub(super) fn clear<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        self.forget(response.metadata_mut());
        response
    }

    /// Converts the error. If the cookie is no longer valid, the response also clears it.
    pub(super) fn refuse(&self, error: Error) -> Status {
        let is_dead = matches!(
            error,
            Error::RefreshTokenInvalid | Error::RefreshTokenExpired | Error::RefreshTokenReused | Error::SessionEnded
        );
        let mut status = Status::from(error);
        if is_dead && matches!(self, Self::Cookie { used: true, .. }) {
            self.forget(status.metadata_mut());
        }
        status
    }

    fn forget(&self, metadata: &mut MetadataMap) {
        if let Self::Cookie { secure, .. } = *self {
            self.forget_others(metadata);
            metadata.append(SET_COOKIE, set_cookie(secure, "", Duration::ZERO));
        }
    }

    /// Clears the legacy cookie and planted cookies, but not the cookie that this version sets.
    fn forget_others(&self, metadata: &mut MetadataMap) {
        if let Self::Cookie {
            secure, clear_planted, ..
        } = self
        {
            if *secure {
                metadata.append(SET_COOKIE, header(&removal(LEGACY_NAME).path(PATH).build()));
            }
            for cookie in clear_planted {
                metadata.append(SET_COOKIE, cookie.clone());
            }
        }
    }
}

/// Returns the non-empty values of all cookies with this name. The header as a whole is at most 16
/// KiB.
fn values(metadata: &MetadataMap, name: &str) -> Vec<String> {
    // HTTP/2 may split the header (RFC 9113, 8.2.3).
    let headers = metadata.get_all(COOKIE).into_iter();
    headers
        .flat_map(|header| header.as_bytes().split(|byte| *byte == b';'))
        // Cookies of other pages may contain any bytes. Ours is ASCII.
        .filter_map(|pair| str::from_utf8(pair).ok().filter(|pair| pair.is_ascii()))
        .filter_map(|pair| Cookie::parse(pair).ok())
        .filter(|cookie| cookie.name() == name && !cookie.value().is_empty())
        .map(|cookie| cookie.value().to_owned())
        .collect()
}

fn set_cookie(secure: bool, value: &str, life: Duration) -> MetadataValue<Ascii> {
    let life = cookie::time::Duration::try_from(life).unwrap_or(cookie::time::Duration::ZERO);
    let (name, path) = if secure { (HOST_NAME, "/") } else { (NAME, PATH) };
    let cookie = Cookie::build((name, value))
        .path(path)
        .http_only(true)
        .secure(secure)
        .same_site(SameSite::Strict)
        .max_age(life);
    header(&cookie.build())
}

/// Returns headers that clear cookies with this name that may have been planted for a page of this
/// origin, as far as this server can reach them. The browser ignores those for other domains.
fn clear_planted(name: &'static str, origin: &str) -> Vec<MetadataValue<Ascii>> {
    let host = Url::parse(origin).ok().and_then(|url| url.domain().map(str::to_owned));
    let domains = host.iter().flat_map(|host| parents(host)).map(Some);
    let mut headers = Vec::new();
    for domain in std::iter::once(None).chain(domains) {
        for path in PLANTED_PATHS {
            let is_ours = domain.is_none() && path == PATH;
            if is_ours {
                continue;
            }
            let mut cookie = removal(name).path(path);
            if let Some(domain) = domain {
                cookie = cookie.domain(domain);
            }
            headers.push(header(&cookie.build()));
        }
    }
    headers
}

/// Returns the domain and the domains above it, shortest first, without top-level domains. There
/// are at most [`MAX_PLANTED_DOMAINS`].
fn parents(host: &str) -> impl Iterator<Item = &str> {
    let dots = host.rmatch_indices('.').skip(1);
    let above = dots.map(|(dot, _)| &host[dot + 1..]);
    let itself = host.contains('.').then_some(host);
    above.chain(itself).take(MAX_PLANTED_DOMAINS)
}

fn removal(name: &'static str) -> CookieBuilder<'static> {
    let is_secure = name != NAME;
    let cookie = Cookie::build((name, "")).max_age(cookie::time::Duration::ZERO);
    if is_secure { cookie.secure(true) } else { cookie }
}

fn header(cookie: &Cookie<'_>) -> MetadataValue<Ascii> {
    let mut header: MetadataValue<Ascii> = cookie.to_string().parse().expect("a refresh token is ASCII");
    // Keeps the value out of HPACK's tables and of `Debug`.
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_domains_that_could_plant_a_cookie_are_listed() {
        for (host, expected) in [
            ("localhost", &[][..]),
            ("example.com", &["example.com"]),
            ("play.example.com", &["example.com", "play.example.com"]),
            ("a.play.example.com", &["example.com", "play.example.com"]),
        ] {
            assert_eq!(parents(host).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn headers_that_clear_planted_cookies_fit_into_a_proxy_buffer() {
        let headers = clear_planted(LEGACY_NAME, "https://play.example.com");
        let size: usize = headers
            .iter()
            .map(|header| SET_COOKIE.len() + header.as_bytes().len() + ": \r\n".len())
            .sum();
        assert!(size < 3000, "{size}");
    }
}
