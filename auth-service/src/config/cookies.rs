//! Setting for the origins whose pages keep their refresh token in a cookie.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use url::{Origin, Url};

/// Web pages whose refresh tokens travel in a cookie.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Cookies")]
pub struct CookieSettings {
    /// Origins of web pages that can keep their refresh token in an HttpOnly cookie, such as
    /// `https://play.example.com`. For an origin with http:// the cookie is not Secure, which is
    /// meant for development only. By default there are none [default of the standalone, which a
    /// list replaces: the origin of --gateway-url, under both names if it is `127.0.0.1` or
    /// `localhost`]
    #[arg(long, env = "COOKIE_ORIGINS", value_name = "ORIGIN,...", value_delimiter = ',')]
    pub cookie_origins: Option<Vec<CookieOrigin>>,
}

/// An origin as browsers write it: scheme, host, and the port unless it is the scheme's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieOrigin(String);

impl CookieSettings {
    /// Returns whether pages of this origin may keep their refresh token in a cookie.
    pub(crate) fn allows(&self, origin: &str) -> bool {
        let mut allowed = self.cookie_origins.iter().flatten();
        allowed.any(|CookieOrigin(allowed)| allowed == origin)
    }

    /// Returns the origins that use plain HTTP and are not on this machine. Their traffic can be
    /// read on the way.
    pub(crate) fn exposed(&self) -> impl Iterator<Item = &CookieOrigin> {
        let is_exposed = |CookieOrigin(origin): &&CookieOrigin| {
            Url::parse(origin).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url))
        };
        self.cookie_origins.iter().flatten().filter(is_exposed)
    }
}

/// Returns whether the URL names this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // For schemes other than http(s), `url` parses an IPv4 address as a name.
        Some(url::Host::Domain(name)) => {
            name == "localhost"
                || name.ends_with(".localhost")
                || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl FromStr for CookieOrigin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "must be http:// or https:// and a host, without a path, such as https://play.example.com";
        let url = Url::parse(text).map_err(|_| BAD)?;
        let is_bare = matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        match url.origin() {
            origin @ Origin::Tuple(..) if is_bare => Ok(Self(origin.ascii_serialization())),
            _ => Err(BAD),
        }
    }
}

impl fmt::Display for CookieOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_normalized_as_browsers_write_them() {
        for (text, origin) in [
            ("https://play.example.com", "https://play.example.com"),
            ("https://Play.Example.com:443/", "https://play.example.com"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ] {
            assert_eq!(text.parse::<CookieOrigin>().expect(text).to_string(), origin);
        }
        for text in [
            "",
            "*",
            "null",
            "play.example.com",
            "https://",
            "ftp://example.com",
            "https://example.com/login",
            "https://example.com?",
            "https://ann@example.com",
            "file:///",
        ] {
            assert!(text.parse::<CookieOrigin>().is_err(), "{text}");
        }
    }

    #[test]
    fn plain_http_origins_of_other_machines_count_as_exposed() {
        let origins = [
            "http://localhost:8080",
            "http://127.0.0.1",
            "http://[::1]:8080",
            "http://example.com",
            "https://example.org",
        ];
        let settings = CookieSettings {
            cookie_origins: Some(origins.map(|origin| origin.parse().expect("an origin")).to_vec()),
        };
        let exposed: Vec<_> = settings.exposed().map(ToString::to_string).collect();
        assert_eq!(exposed, ["http://example.com"]);
    }
}
