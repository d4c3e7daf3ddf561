//! Fuzz targets for tokens that only this service issues, and for names and passwords that any
//! client may send.

use base::ids::{SessionId, UserId};
use secrecy::ExposeSecret;
use testing::fuzz::Target;
use uuid::Uuid;

use crate::{
    domain::{
        feed::stream::position,
        keys::{
            mac_keys::{MAX_LEN, MacKeys},
            secret::{Purpose, ServerSecrets},
        },
        mail::codes::{AccountCodes, Binding, PresentedCode},
        passwords::password::{Password, PasswordRules},
        rbac::code_name::{CodeName, PermissionName},
        tokens::{
            device::DeviceTokens,
            refresh::{RefreshClaim, RefreshTokens},
        },
        users::names::{Email, Login, PersonName, fold},
    },
    ids::DeviceId,
    mail::Locale,
    model::CodePurpose,
};

const SEPARATORS: [&str; 12] = [".", "..", "-", "=", "+", "/", "A", "0", " ", "\n", "\0", "\u{e9}"];

fn secrets() -> ServerSecrets {
    ServerSecrets::generate().expose_secret().parse().expect("a secret")
}

fn session(id: u128) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(id))
}

#[test]
fn fuzz_refresh_tokens() {
    let tokens = RefreshTokens::new(&secrets());
    let claims = [1, 2, i64::MAX].map(|counter| RefreshClaim {
        session_id: session(0x0190_b6e4_9f6d_7c3a_8d2e_5b1f_0c9a_7e42),
        counter,
    });
    let good = claims.map(|claim| tokens.make(claim));
    let good = good.each_ref().map(ExposeSecret::expose_secret);
    Target {
        corpus: include_str!("fuzz/refresh_tokens.txt"),
        genuine: &good.map(str::as_bytes),
        pieces: &SEPARATORS,
    }
    .texts(|text| {
        let index = good.iter().position(|token| *token == text);
        let read = tokens.read(text).ok();
        assert_eq!(read, index.map(|index| claims[index]), "only a genuine token is one");
    });
}

/// Seals each body with the genuine key, so that it gets past the MAC and reaches the parser.
#[test]
fn fuzz_refresh_token_bodies() {
    let secrets = secrets();
    let (tokens, keys) = (
        RefreshTokens::new(&secrets),
        MacKeys::new(&secrets, Purpose::RefreshTokens),
    );
    Target {
        corpus: include_str!("fuzz/bodies.txt"),
        genuine: &[
            b"v1.0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42.1",
            b"v1.0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42.9223372036854775807",
        ],
        pieces: &[
            "v1",
            "v2",
            "d1",
            ".",
            "-",
            "-1",
            "+1",
            "0",
            "9223372036854775808",
            "{",
            "}",
            "urn:uuid:",
            " ",
        ],
    }
    .texts(|body| {
        let token = keys.seal(body);
        let token = token.expose_secret();
        if token.len() > MAX_LEN {
            assert!(tokens.read(token).is_err());
        }
        if let Ok(claim) = tokens.read(token) {
            assert_eq!(tokens.read(tokens.make(claim).expose_secret()).ok(), Some(claim));
            assert!(body.starts_with("v1."));
        }
    });
}

#[test]
fn fuzz_device_tokens() {
    let secrets = secrets();
    let tokens = DeviceTokens::new(&secrets);
    let (device, user) = (DeviceId::generate(), UserId::generate());
    let (good, foreign) = (tokens.make(device, user), tokens.make(device, UserId::generate()));
    let refresh = RefreshTokens::new(&secrets).make(RefreshClaim {
        session_id: session(1),
        counter: 1,
    });
    Target {
        corpus: include_str!("fuzz/device_tokens.txt"),
        genuine: &[&good, &foreign, &refresh].map(|token| token.expose_secret().as_bytes()),
        pieces: &SEPARATORS,
    }
    .texts(|text| {
        let is_good = text == good.expose_secret();
        assert_eq!(tokens.read(text, user), is_good.then_some(device));
        assert_eq!(tokens.open(text).is_some(), is_good || text == foreign.expose_secret());
    });
}

#[test]
fn fuzz_logins() {
    Target {
        corpus: include_str!("fuzz/names.txt"),
        genuine: &[b"ann", b"A.b-c_9", b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"],
        pieces: &[
            "_", ".", "-", "@", "a", "Z", "9", " ", "\0", "\u{e4}", "\u{ff41}", "\u{430}", "\u{200b}",
        ],
    }
    .texts(|text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let trimmed = text.trim();
        let is_good = (3..=32).contains(&trimmed.len()) && trimmed.chars().all(allowed);
        let login = text.parse::<Login>();
        assert_eq!(login.is_ok(), is_good);
        if let Ok(login) = login {
            assert_eq!(login.as_str(), trimmed);
            assert_eq!(login.folded(), trimmed.to_ascii_lowercase());
            assert_eq!(login.folded(), fold(trimmed));
            // No login is an e-mail address.
            assert!(text.parse::<Email>().is_err());
        }
    });
}

/// Characters that are difficult to compare: sigmas, dotted and dotless i, sharp s, ligatures,
/// fillers, joiners, marks of direction, full width, letters that look alike, and one character
/// that expands to eighteen.
const UNICODE: [&str; 24] = [
    "\u{3c2}",
    "\u{3a3}",
    "\u{130}",
    "\u{131}",
    "\u{df}",
    "\u{1e9e}",
    "\u{fb03}",
    "\u{3164}",
    "\u{200d}",
    "\u{200b}",
    "\u{202e}",
    "\u{ff41}",
    "\u{430}",
    "\u{fdfa}",
    "\u{308}",
    "\u{345}",
    "\u{1c4}",
    "\u{2160}",
    "\u{212a}",
    "\u{1f88}",
    "\u{e0041}",
    "\u{3002}",
    "\u{feff}",
    "\u{a0}",
];

#[test]
fn fuzz_email_addresses() {
    let pieces = [
        &UNICODE[..],
        &[
            "@",
            ".",
            "..",
            "\"",
            "<",
            "[127.0.0.1]",
            "xn--",
            "+",
            "=",
            "\r\n",
            "\0",
            "-",
        ],
    ]
    .concat();
    Target {
        corpus: include_str!("fuzz/names.txt"),
        genuine: &[
            b"ann@example.com",
            b"admin@localhost",
            "Zo\u{eb}@ex\u{e4}mple.test".as_bytes(),
            b"a.b+c@x.y.example",
        ],
        pieces: &pieces,
    }
    .texts(|text| {
        let Ok(email) = text.parse::<Email>() else {
            return;
        };
        let given = email.as_str();
        assert!(given.chars().count() <= 254 && text.contains(given));
        assert!(
            !given.chars().any(|c| c.is_control() || c.is_whitespace()),
            "{given:?} could inject a header"
        );
        assert!(fold(given).contains('@'));
        assert!(
            given.parse::<Email>().is_ok_and(|again| again == email),
            "parsing an address again yields the same address"
        );
        assert!(!format!("{email:?}").contains(given), "Debug must not show the address");
    });
}

#[test]
fn fuzz_person_names() {
    let pieces = [
        &UNICODE[..],
        &[" ", "  ", "\t", "\n", "\0", "\u{85}", "\u{2028}", "e\u{301}", "O'"],
    ]
    .concat();
    Target {
        corpus: include_str!("fuzz/names.txt"),
        genuine: &[
            b"Ann",
            "Zo\u{eb}".as_bytes(),
            "\u{645}\u{6cc}\u{200c}\u{62e}".as_bytes(),
            b"Jean-Luc O'Neill jr.",
        ],
        pieces: &pieces,
    }
    .texts(|text| {
        let Ok(name) = text.parse::<PersonName>() else {
            return;
        };
        assert!(name.as_str().chars().count() <= 100);
        assert!(!name.as_str().chars().any(char::is_control));
        assert_eq!(name.as_str().trim(), name.as_str());
        assert_eq!(
            name.as_str().parse::<PersonName>().as_ref(),
            Ok(&name),
            "a name is the same when it comes again"
        );
    });
}

#[test]
fn fuzz_case_folding() {
    let pieces = [&UNICODE[..], &["a", "Z", "@", " "]].concat();
    Target {
        corpus: include_str!("fuzz/names.txt"),
        genuine: &[
            b"Ann",
            "\u{39d}\u{3a3}".as_bytes(),
            "STRASSE".as_bytes(),
            "\u{fdfa}".as_bytes(),
        ],
        pieces: &pieces,
    }
    .texts(|text| {
        let folded = fold(text);
        assert_eq!(
            fold(&folded),
            folded,
            "folding what is folded changes nothing: {text:?}"
        );
        if text.is_ascii() {
            assert_eq!(folded, text.to_ascii_lowercase());
        }
        // The length grows by a bounded factor: one character becomes at most eighteen.
        assert!(folded.chars().count() <= 18 * text.chars().count());
    });
}

#[test]
fn fuzz_passwords() {
    let long = "p".repeat(128);
    let pieces = [&UNICODE[..], &[" ", "\0", "\n", "password", "12345678"]].concat();
    Target {
        corpus: include_str!("fuzz/names.txt"),
        genuine: &[b"correct horse", "pa\u{df}wort \u{e4}".as_bytes(), long.as_bytes()],
        pieces: &pieces,
    }
    .texts(|text| {
        let presented = Password::presented(text);
        if let Ok(password) = &presented {
            let hashed = str::from_utf8(password.as_bytes()).expect("UTF-8");
            assert!(!text.is_empty() && text.len() <= 512 && !hashed.contains('\0'));
            if let Ok(again) = Password::presented(hashed) {
                assert!(again.is(password), "the same password from every keyboard");
            }
        }
        if let Ok(password) = Password::chosen(text, PasswordRules::default()) {
            let len = str::from_utf8(password.as_bytes()).expect("UTF-8").chars().count();
            assert!((8..=128).contains(&len));
            assert!(
                presented.is_ok_and(|presented| presented.is(&password)),
                "its owner can log in with it"
            );
        }
    });
}

#[test]
fn fuzz_code_names() {
    Target {
        corpus: include_str!("fuzz/names.txt"),
        genuine: &[b"games", b"games:create", b"a_1:b_2"],
        pieces: &[
            ":", "_", "a", "9", "A", "-", " ", "*", "all", "\0", "\u{e4}", "\u{ff41}",
        ],
    }
    .texts(|text| {
        let is_code_name = |text: &str| {
            (2..=64).contains(&text.len())
                && text.starts_with(|c: char| c.is_ascii_lowercase())
                && text
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        assert_eq!(text.parse::<CodeName>().is_ok(), is_code_name(text));
        let permission = text.parse::<PermissionName>();
        let parts: Vec<&str> = text.split(':').collect();
        assert_eq!(
            permission.is_ok(),
            parts.len() == 2 && parts.iter().all(|part| is_code_name(part))
        );
        if let Ok(permission) = permission {
            assert_eq!(permission.to_string(), text);
        }
    });
}

#[test]
fn fuzz_mailed_codes() {
    let codes = AccountCodes::new(&secrets());
    let seed = AccountCodes::seed();
    let binding = Binding {
        purpose: CodePurpose::PasswordReset,
        user_id: UserId::from_uuid(Uuid::from_u128(7)),
        address_key: "ann@example.com",
        seed: &seed,
    };
    let good = [codes.typed(binding), codes.linked(binding)];
    let good = good.each_ref().map(ExposeSecret::expose_secret);
    let typed = good[0].replace('-', "");
    Target {
        corpus: include_str!("fuzz/names.txt"),
        genuine: &good.map(str::as_bytes),
        pieces: &SEPARATORS,
    }
    .texts(|text| {
        let is_right = text
            .parse::<PresentedCode>()
            .is_ok_and(|presented| codes.is_right(binding, &presented));
        let plain: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        let is_genuine = text.trim() == good[1] || plain.eq_ignore_ascii_case(&typed);
        assert_eq!(is_right, is_genuine, "only a genuine code is one: {text:?}");
    });
}

#[test]
fn fuzz_languages() {
    Target {
        corpus: include_str!("fuzz/names.txt"),
        genuine: &[b"en", b"pt-BR", b"zh-Hant-TW", b"ru-RU,ru;q=0.9,en;q=0.8", b"*"],
        pieces: &[
            "-", "_", ",", ";", "q=", "0.5", "en", "EN", "x", " ", "\0", "\r\n", "\u{e9}",
        ],
    }
    .texts(|text| {
        let accepted = Locale::accepted(text);
        let parsed = text.parse::<Locale>().unwrap_or_default();
        for locale in [accepted, parsed] {
            let tag = locale.as_str();
            assert!(
                tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
                "{tag:?}"
            );
            assert_eq!(
                tag.parse::<Locale>().as_ref(),
                Ok(&locale),
                "parsing a tag again yields the same tag"
            );
        }
    });
}

#[test]
fn fuzz_access_feed_cursors() {
    Target {
        corpus: include_str!("fuzz/names.txt"),
        genuine: &[
            b"0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42",
            b"00000000-0000-0000-0000-000000000000",
        ],
        pieces: &["-", "{", "}", "urn:uuid:", "0", "f", "G", " ", "\0", "\u{e9}"],
    }
    .texts(|text| match position(text, i64::MIN) {
        Ok(None) => assert_eq!(text, ""),
        Ok(Some(position)) => {
            assert_eq!(position.epoch.to_string(), text.to_lowercase());
            assert_eq!(position.sequence, i64::MIN);
        }
        Err(_) => assert!(!text.is_empty()),
    });
}
