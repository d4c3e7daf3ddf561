//! How a refresh token travels: in messages, or for a page in a browser in a cookie that no script can read.
//!
//! A page asks for the cookie with the header `x-token-transport: cookie`. Without it cookies are ignored: they come along
//! with every request that a browser makes, whoever made it. With it the browser's `origin` must be an allowed one, which another
//! site's page cannot be: the header makes its request one that asks first (CORS), and the origin is not its to choose.
//! The attributes are those of RFC 6265bis for a credential: HttpOnly, Secure, SameSite=Strict, and the prefix `__Secure-`.

use std::{sync::Arc, time::Duration};

use cookie::{Cookie, SameSite};
use shared::{
    error::ErrorReply,
    proto::auth::v1::{ErrorReason, TokenPair},
    validate::InvalidFields,
};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

use crate::{config::CookieSettings, domain::Error};

const TRANSPORT: &str = "x-token-transport";
const ORIGIN: &str = "origin";
const COOKIE: &str = "cookie";
const SET_COOKIE: &str = "set-cookie";

const NAME: &str = "refresh_token";
/// Browsers take a cookie of such a name over TLS alone (RFC 6265bis, 4.1.3.1).
const SECURE_NAME: &str = "__Secure-refresh_token";
/// The calls that read it (refresh, rotate, logout, revoke), and a few beside them.
const PATH: &str = "/v1/auth";

/// Which transports there are.
#[derive(Clone, Debug)]
pub(crate) struct Transports(Arc<CookieSettings>);

/// The transport of one call.
#[derive(Debug)]
pub(super) enum Transport {
    /// The refresh token is a field of the messages.
    Message,
    /// It is in a cookie.
    Cookie {
        secure: bool,
        /// What the browser sent.
        presented: Option<String>,
        /// Whether the call goes by that.
        used: bool,
    },
}

impl Transports {
    pub(crate) fn new(settings: CookieSettings) -> Self {
        Self(Arc::new(settings))
    }

    /// Errors: INVALID_ARGUMENT; PERMISSION_DENIED (ORIGIN_NOT_ALLOWED).
    pub(super) fn of<T>(&self, request: &Request<T>) -> Result<Transport, Status> {
        let metadata = request.metadata();
        let Some(transport) = metadata.get(TRANSPORT) else {
            return Ok(Transport::Message);
        };
        if transport != "cookie" {
            return Err(Error::from(InvalidFields::one(TRANSPORT, "must be `cookie` or absent")).into());
        }
        let mut origins = metadata.get_all(ORIGIN).iter().map(MetadataValue::to_str);
        match (origins.next(), origins.next()) {
            (Some(Ok(origin)), None) if self.0.allows(origin) => {
                let secure = origin.starts_with("https://");
                Ok(Transport::Cookie {
                    secure,
                    presented: presented(metadata, name(secure)).map_err(Error::from)?,
                    used: false,
                })
            }
            _ => Err(ErrorReply::new(
                Code::PermissionDenied,
                ErrorReason::OriginNotAllowed,
                "pages of this origin do not get their refresh token in a cookie; the setting is --cookie-origins",
            )
            .into()),
        }
    }
}

impl Transport {
    /// Puts the presented cookie where the message has no token.
    pub(super) fn fill(&mut self, token: &mut String) {
        if let Self::Cookie { presented, used, .. } = self
            && token.is_empty()
            && let Some(presented) = presented.take()
        {
            *token = presented;
            *used = true;
        }
    }

    /// The answer that brings these tokens.
    pub(super) fn deliver<T>(&self, mut tokens: TokenPair, message: impl FnOnce(TokenPair) -> T) -> Response<T> {
        let Self::Cookie { secure, .. } = *self else {
            return Response::new(message(tokens));
        };
        let token = std::mem::take(&mut tokens.refresh_token);
        let life = Duration::from_secs(tokens.refresh_expires_in.unsigned_abs().into());
        let cookie = set_cookie(secure, &token, life);
        let mut response = Response::new(message(tokens));
        response.metadata_mut().append(SET_COOKIE, cookie);
        response
    }

    /// The answer after which there is no session.
    pub(super) fn clear<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        self.forget(response.metadata_mut());
        response
    }

    /// The error; where it means that the cookie is worth nothing any more, it takes the cookie away.
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
            metadata.append(SET_COOKIE, set_cookie(secure, "", Duration::ZERO));
        }
    }
}

const fn name(secure: bool) -> &'static str {
    if secure { SECURE_NAME } else { NAME }
}

/// The cookie of this name. A second one was planted by a site of a neighbouring name, which can choose a path by which its own comes
/// first (RFC 6265, 5.4, 8.6): which of them is ours cannot be told, so none is.
fn presented(metadata: &MetadataMap, name: &str) -> Result<Option<String>, InvalidFields> {
    // HTTP/2 may split the header (RFC 9113, 8.2.3).
    let headers = metadata.get_all(COOKIE).into_iter();
    let mut values = headers
        .filter_map(|header| header.to_str().ok())
        .flat_map(Cookie::split_parse)
        .filter_map(Result::ok)
        .filter(|cookie| cookie.name() == name)
        .map(|cookie| cookie.value().to_owned());
    let first = values.next().filter(|value| !value.is_empty());
    if values.next().is_some() {
        return Err(InvalidFields::one(COOKIE, "must hold the refresh token once"));
    }
    Ok(first)
}

fn set_cookie(secure: bool, value: &str, life: Duration) -> MetadataValue<Ascii> {
    let life = cookie::time::Duration::try_from(life).unwrap_or(cookie::time::Duration::ZERO);
    let mut cookie = Cookie::build((name(secure), value))
        .path(PATH)
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(life);
    if secure {
        cookie = cookie.secure(true);
    }
    let text = cookie.to_string();
    let mut header: MetadataValue<Ascii> = text.parse().expect("a refresh token is ASCII");
    // Kept out of HPACK's tables, and out of `Debug`.
    header.set_sensitive(true);
    header
}
