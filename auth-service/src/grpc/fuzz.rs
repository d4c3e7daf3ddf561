//! Fuzz targets for headers (cookies, origins and user agents) and for declared policies.

use std::collections::BTreeSet;

use proto::auth::v1::DeclaredPermission;
use testing::fuzz::Target;
use tonic::{
    Code, Request,
    metadata::{Ascii, MetadataValue},
};

use super::{
    rbac_requests::declared,
    request_context::request_context,
    transport::{Transport, Transports},
};
use crate::{config::CookieSettings, domain::CodeName};

const PAGE: &str = "https://play.example.com";
const COOKIE: &str = "__Host-refresh_token";
/// Former name of the cookie.
const LEGACY: &str = "__Secure-refresh_token";

fn transports() -> Transports {
    Transports::new(CookieSettings {
        cookie_origins: Some(vec![PAGE.parse().expect("an origin")]),
    })
}

/// Returns a call from a page that asks for its token in a cookie.
fn from_page(origin: &MetadataValue<Ascii>, cookies: &[&MetadataValue<Ascii>]) -> Request<()> {
    let mut request = Request::new(());
    let metadata = request.metadata_mut();
    metadata.insert("x-token-transport", MetadataValue::from_static("cookie"));
    metadata.insert("origin", origin.clone());
    for cookie in cookies {
        metadata.append("cookie", (*cookie).clone());
    }
    request
}

/// Returns the refresh tokens that are read from the cookies, each once.
fn presented(cookies: &[&MetadataValue<Ascii>]) -> Vec<String> {
    let request = from_page(&MetadataValue::from_static(PAGE), cookies);
    match transports().of(&request).expect("the origin is allowed") {
        Transport::Cookie { presented, .. } => presented,
        Transport::Message => panic!("the page asked for a cookie"),
    }
}

#[test]
fn fuzz_cookies() {
    let genuine = MetadataValue::from_static("__Host-refresh_token=v1.genuine");
    Target {
        corpus: include_str!("fuzz/cookies.txt"),
        genuine: &[
            b"__Host-refresh_token=v1.0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42.1.AAAA",
            b"theme=dark; __Host-refresh_token=v1.a; lang=en; __Host-refresh_token=v1.b",
            b"refresh_token=v1.a; __Host-Refresh_Token=v1.b; __Secure-refresh_token=v1.c",
            b"__Host-refresh_token=",
        ],
        pieces: &[
            ";",
            "; ",
            "=",
            "\"",
            " ",
            "\t",
            ",",
            "$Path=/",
            "__Secure-",
            "__Host-",
            "refresh_token",
            COOKIE,
            LEGACY,
            "v1.b",
            "%3D",
            "\\",
            "\u{a0}",
            "\u{fc}",
        ],
    }
    .bytes(|bytes| {
        let Ok(header) = MetadataValue::<Ascii>::try_from(bytes) else {
            return;
        };
        // An independent reading of RFC 6265, section 4.2.1: every byte becomes the character of
        // its number.
        let text: String = bytes.iter().copied().map(char::from).collect();
        let values = |wanted: &str| -> BTreeSet<String> {
            let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
            let ours = pairs
                .map(|(name, value)| (name.trim_matches([' ', '\t']), value.trim_matches([' ', '\t'])))
                .filter(|(name, value)| *name == wanted && value.is_ascii());
            ours.map(|(_, value)| value.to_owned())
                .filter(|value| !value.is_empty())
                .collect()
        };
        let mut expected = values(COOKIE);
        if expected.is_empty() {
            assert_eq!(presented(&[&header]), Vec::from_iter(values(LEGACY)));
        } else {
            assert_eq!(presented(&[&header]), Vec::from_iter(expected.clone()));
        }
        // A planted cookie never hides the genuine one.
        expected.insert("v1.genuine".to_owned());
        for both in [[&header, &genuine], [&genuine, &header]] {
            assert_eq!(presented(&both), Vec::from_iter(expected.clone()));
        }
    });
}

#[test]
fn fuzz_origins() {
    let transports = transports();
    Target {
        corpus: include_str!("fuzz/origins.txt"),
        genuine: &[
            PAGE.as_bytes(),
            b"http://play.example.com",
            b"https://play.example.com.evil.test",
        ],
        pieces: &[
            "null", "*", "http://", "https://", "/", ":443", ".", "@", "#", "?", ",", " ", "\t", "PLAY", "\u{e9}",
        ],
    }
    .texts(|text| {
        let Ok(origin) = MetadataValue::<Ascii>::try_from(text.as_bytes()) else {
            return;
        };
        let outcome = transports.of(&from_page(&origin, &[])).map_err(|status| status.code());
        assert_eq!(
            outcome.is_ok(),
            text == PAGE,
            "another site's page is refused: {text:?}"
        );
        assert!(outcome.is_ok() || outcome.is_err_and(|code| code == Code::PermissionDenied));
    });
}

#[test]
fn fuzz_user_agents() {
    let long = "x".repeat(300);
    Target {
        corpus: include_str!("fuzz/user_agents.txt"),
        genuine: &[
            b"grpc-rust/1.0 tonic/0.14",
            b"Mozilla/5.0 (X11; Linux x86_64)",
            long.as_bytes(),
        ],
        pieces: &[
            "\t",
            "\u{1b}[31m",
            "\u{7f}",
            "\u{e9}",
            "<script>",
            "\" ",
            "%0a",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ],
    }
    .bytes(|bytes| {
        let Ok(header) = MetadataValue::<Ascii>::try_from(bytes) else {
            return;
        };
        for name in ["user-agent", "x-user-agent"] {
            let mut request = Request::new(());
            request.metadata_mut().insert(name, header.clone());
            let user_agent = request_context(&request).origin.user_agent;
            assert!(user_agent.chars().count() <= 256);
            assert!(
                !user_agent.chars().any(char::is_control),
                "a log could be forged by {user_agent:?}"
            );
            let printable = bytes.len() <= 256 && bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
            assert!(
                !printable || user_agent.as_bytes() == bytes,
                "a harmless one is kept as it is"
            );
        }
    });
}

/// Each line of a text declares one permission: `resource:action`, and the roles that hold it from
/// the start.
#[test]
fn fuzz_declared_policies() {
    Target {
        corpus: include_str!("fuzz/declared_policies.txt"),
        genuine: &[
            b"games:create player\ngames:read player admin\nhistory:read_all",
            b"games:create\ngames:create player",
        ],
        pieces: &[
            "\n",
            ":",
            " ",
            "all",
            "superuser",
            "player",
            "games",
            "_",
            "A",
            "\0",
            "\u{ff41}",
            ":all superuser\n",
        ],
    }
    .texts(|text| {
        let lines = text.lines().map(|line| {
            let mut words = line.split(' ');
            let (resource, action) = words.next().and_then(|name| name.split_once(':')).unwrap_or_default();
            DeclaredPermission {
                resource: resource.to_owned(),
                action: action.to_owned(),
                default_roles: words.map(str::to_owned).collect(),
            }
        });
        let lines: Vec<DeclaredPermission> = lines.collect();
        let Ok(parsed) = declared(lines.clone()) else {
            return;
        };
        assert!(!parsed.is_empty() && parsed.len() <= lines.len());
        for one in &parsed {
            assert_ne!(one.permission.action, "all", "a service declares one action at a time");
            assert!(
                !one.default_roles.contains("superuser"),
                "a service gives superusers nothing"
            );
            let names = [&one.permission.resource, &one.permission.action];
            for name in names.into_iter().chain(&one.default_roles) {
                assert!(name.parse::<CodeName>().is_ok(), "{name:?}");
            }
        }
        for line in &lines {
            let is_same = |one: &&crate::domain::Declared| {
                one.permission.resource == line.resource && one.permission.action == line.action
            };
            let one = parsed.iter().find(is_same).expect("nothing is lost");
            assert!(line.default_roles.iter().all(|role| one.default_roles.contains(role)));
        }
    });
}
