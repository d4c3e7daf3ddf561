//! Fuzz targets for headers (cookies, origins and user agents) and for declared policies.

use shared::{proto::auth::v1::DeclaredPermission, testing::fuzz::Target};
use tonic::{
    Code, Request,
    metadata::{Ascii, MetadataValue},
};

use super::{act::act, rbac_requests::declared, transport::Transports};
use crate::{config::CookieSettings, domain::CodeName};

const PAGE: &str = "https://play.example.com";
const COOKIE: &str = "__Secure-refresh_token";

fn transports() -> Transports {
    Transports::new(CookieSettings {
        cookie_origins: Some(vec![PAGE.parse().expect("an origin")]),
    })
}

/// A call from a page that asks for its token in a cookie.
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

/// Returns the refresh token that is read from the cookies, or the code with which they are refused.
fn token(cookies: &[&MetadataValue<Ascii>]) -> Result<String, Code> {
    let mut token = String::new();
    let request = from_page(&MetadataValue::from_static(PAGE), cookies);
    let mut transport = transports().of(&request).map_err(|status| status.code())?;
    transport.fill(&mut token);
    Ok(token)
}

#[test]
fn fuzz_cookies() {
    let genuine = MetadataValue::from_static("__Secure-refresh_token=v1.genuine");
    Target {
        kept: include_str!("fuzz/cookies.txt"),
        genuine: &[
            b"__Secure-refresh_token=v1.0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42.1.AAAA",
            b"theme=dark; __Secure-refresh_token=v1.a; lang=en",
            b"refresh_token=v1.a; __Secure-Refresh_Token=v1.b",
            b"__Secure-refresh_token=",
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
            "refresh_token",
            COOKIE,
            "v1.b",
            "%3D",
            "\\",
        ],
    }
    .bytes(|bytes| {
        let Ok(header) = MetadataValue::<Ascii>::try_from(bytes) else {
            return;
        };
        // An independent reading of RFC 6265, section 4.2.1.
        let text = header.to_str().unwrap_or_default();
        let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
        let ours: Vec<&str> = pairs
            .filter(|(name, _)| name.trim() == COOKIE)
            .map(|(_, value)| value.trim())
            .collect();
        match ours.as_slice() {
            [] => assert_eq!(token(&[&header]).as_deref(), Ok("")),
            [one] => assert_eq!(token(&[&header]).as_deref(), Ok(*one)),
            _ => assert_eq!(token(&[&header]), Err(Code::InvalidArgument)),
        }
        // A planted cookie header never hides the genuine cookie: either that is used, or the call is refused.
        for both in [[&header, &genuine], [&genuine, &header]] {
            match ours.as_slice() {
                [] => assert_eq!(token(&both).as_deref(), Ok("v1.genuine")),
                _ => assert_eq!(token(&both), Err(Code::InvalidArgument)),
            }
        }
    });
}

#[test]
fn fuzz_origins() {
    let transports = transports();
    Target {
        kept: include_str!("fuzz/origins.txt"),
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
        kept: include_str!("fuzz/user_agents.txt"),
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
            let user_agent = act(&request).origin.user_agent;
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

/// Each line of a text declares one permission: `resource:action`, and the roles that hold it from the start.
#[test]
fn fuzz_declared_policies() {
    Target {
        kept: include_str!("fuzz/declared_policies.txt"),
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
