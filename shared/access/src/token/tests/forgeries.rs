//! Tests of tokens that auth-service did not sign, or not in this form.

use std::net::TcpListener;

use aws_lc_rs::hmac;
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use proptest::prelude::*;

use super::{super::MAX_TOKEN_LEN, Bench, keys::pem, object};
use crate::testing::tokens::TokenMint;

#[test]
fn a_valid_token_identifies_the_caller() {
    let bench = Bench::new();
    let principal = bench.verify(&bench.good_token()).unwrap();
    assert_eq!(principal.user_id(), bench.claims.sub);
    assert_eq!(principal.session_id(), bench.claims.sid);
    assert_eq!(principal.login(), "ada");
    assert!(principal.has_role("player") && !principal.has_role("admin"));
    assert!(!principal.is_service());
}

#[test]
fn another_algorithm_is_refused_even_with_a_valid_signature() {
    let bench = Bench::new();
    let kid = bench.mint.jwk().kid();
    for alg in [
        "none", "None", "NONE", "nOnE", "", "EDDSA", "eddsa", "Ed25519", "Ed448", "HS256", "RS256", "ES256", "EdDSA ",
    ] {
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}"}}"#);
        let token = bench.sign_header(&header);
        bench.refuses(&token, &header);
        let (signed, _) = token.rsplit_once('.').unwrap();
        bench.refuses(&format!("{signed}."), "no signature");
        bench.refuses(signed, "no third segment");
    }
    for alg in ["null", "[\"EdDSA\"]", "0", "{}"] {
        bench.refuses(
            &bench.sign_header(&format!(r#"{{"alg":{alg},"typ":"at+jwt","kid":"{kid}"}}"#)),
            alg,
        );
    }
    bench.refuses(
        &bench.sign_header(&format!(r#"{{"typ":"at+jwt","kid":"{kid}"}}"#)),
        "no alg",
    );
}

#[test]
fn a_mac_under_the_public_key_is_refused() {
    let bench = Bench::new();
    let jwk = bench.mint.jwk();
    let (pem, der) = pem(jwk.public_key());
    let x = BASE64_URL_SAFE_NO_PAD.encode(jwk.public_key());
    let secrets = [
        jwk.public_key().to_vec(),
        serde_json::to_vec(jwk).unwrap(),
        serde_json::to_vec(&bench.mint.jwks()).unwrap(),
        pem.trim_end().as_bytes().to_vec(),
        pem.into_bytes(),
        der,
        x.into_bytes(),
    ];
    for (algorithm, mac) in [
        ("HS256", hmac::HMAC_SHA256),
        ("HS512", hmac::HMAC_SHA512),
        ("EdDSA", hmac::HMAC_SHA256),
        ("EdDSA", hmac::HMAC_SHA512),
    ] {
        let header = bench.mint.header().replace("EdDSA", algorithm);
        let signed = format!(
            "{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(header),
            BASE64_URL_SAFE_NO_PAD.encode(object(&bench.members()))
        );
        for secret in &secrets {
            let tag = hmac::sign(&hmac::Key::new(mac, secret), signed.as_bytes());
            let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag));
            bench.refuses(&token, algorithm);
        }
    }
}

#[test]
fn keys_in_the_header_are_neither_used_nor_fetched() {
    let bench = Bench::new();
    let attacker = TokenMint::fixed(2);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let jwk = serde_json::to_string(attacker.jwk()).unwrap();
    for (kid, mint) in [
        (bench.mint.jwk().kid(), &bench.mint),
        (bench.mint.jwk().kid(), &attacker),
        (attacker.jwk().kid(), &attacker),
    ] {
        for extra in [
            format!(r#""jwk":{jwk}"#),
            format!(r#""jku":"{url}""#),
            format!(r#""x5u":"{url}""#),
            r#""x5c":["MIIB"]"#.to_owned(),
            r#""x5t":"AAAA""#.to_owned(),
            r#""x5t#S256":"AAAA""#.to_owned(),
            r#""crit":["b64"],"b64":false"#.to_owned(),
            r#""crit":["exp"],"exp":1"#.to_owned(),
            r#""crit":[]"#.to_owned(),
            r#""b64":false"#.to_owned(),
            r#""b64":true"#.to_owned(),
            r#""zip":"DEF""#.to_owned(),
            r#""cty":"JWT""#.to_owned(),
            r#""enc":"A256GCM""#.to_owned(),
            r#""whatever":null"#.to_owned(),
            r#""alg":"EdDSA""#.to_owned(),
            r#""\u0061lg":"EdDSA""#.to_owned(),
            format!(r#""kid":"{kid}""#),
        ] {
            let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}",{extra}}}"#);
            bench.refuses(&mint.sign_raw(&header, &object(&bench.members())), &header);
        }
    }
    assert!(listener.accept().is_err(), "somebody called");
}

#[test]
fn a_kid_that_names_no_known_key_is_refused() {
    let bench = Bench::new();
    let long = format!("\"{}\"", "k".repeat(4096));
    let unknown = format!("{:?}", TokenMint::fixed(2).jwk().kid());
    let known = bench.mint.jwk().kid();
    for kid in [
        "\"../../../etc/passwd\"",
        "\"' OR '1'='1\"",
        "\"x'; DROP TABLE signing_keys; --\"",
        "\"\"",
        "\"\\u0000\"",
        "null",
        "0",
        "{}",
        &format!("[{known:?}]"),
        &format!("\"{known} \""),
        &format!("\"{}\"", known.to_lowercase()),
        &long,
        &unknown,
    ] {
        let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":{kid}}}"#);
        bench.refuses(&bench.sign_header(&header), &header);
    }
    bench.refuses(&bench.sign_header(r#"{"alg":"EdDSA","typ":"at+jwt"}"#), "no kid");
    bench.refuses(
        &bench.sign_header(r#"{"alg":"EdDSA","typ":"at+jwt","x":""}"#),
        "x for kid",
    );
}

#[test]
fn tokens_of_other_types_are_refused() {
    let bench = Bench::new();
    let kid = bench.mint.jwk().kid();
    for typ in [
        "\"JWT\"",
        "\"jwt\"",
        "\"application/at+jwt\"",
        "\"AT+JWT\"",
        "\"at+JWT\"",
        "\"rt+jwt\"",
        "\"\"",
        "null",
        "[\"at+jwt\"]",
    ] {
        let header = format!(r#"{{"alg":"EdDSA","typ":{typ},"kid":"{kid}"}}"#);
        bench.refuses(&bench.sign_header(&header), &header);
    }
    bench.refuses(
        &bench.sign_header(&format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#)),
        "no typ",
    );
    bench.refuses(
        &format!(
            "v1.{}.7.{}",
            bench.claims.sid.unwrap(),
            BASE64_URL_SAFE_NO_PAD.encode([7; 32])
        ),
        "a refresh token",
    );
    for header in ["", "{}", "[]", "null", "\"EdDSA\"", "{\"alg\":", "\u{feff}{}"] {
        bench.refuses(&bench.sign_header(header), header);
    }
    let twice = format!("{0}{0}", bench.mint.header());
    bench.refuses(&bench.sign_header(&twice), "two headers");
}

#[test]
fn other_spellings_of_a_token_are_refused() {
    let bench = Bench::new();
    let good = bench.good_token();
    bench.verify(&good).unwrap();
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three segments");
    };
    for token in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "a.b.c".to_owned(),
        "\u{e9}.\u{e9}.\u{e9}".to_owned(),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{header}.{claims}.{header}.{claims}.{signature}"),
        format!("{header}.{claims}"),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}.{claims}."),
        format!("{good}="),
        format!("{good}=="),
        format!("{header}=.{claims}.{signature}"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\n"),
        format!("{good}\0"),
        format!("{header}.\n{claims}.{signature}"),
        format!("{header} .{claims}.{signature}"),
        format!("Bearer {good}"),
        format!("{good},{good}"),
        format!(r#"{{"payload":"{claims}","protected":"{header}","signature":"{signature}"}}"#),
        format!(r#"{{"payload":"{claims}","signatures":[{{"protected":"{header}","signature":"{signature}"}}]}}"#),
        "A".repeat(1 << 20),
        format!("{header}.{claims}.{}", "A".repeat(1 << 20)),
        ".".repeat(1 << 20),
    ] {
        bench.refuses(&token, token.get(..200).unwrap_or(&token));
    }
}

#[test]
fn non_canonical_base64_is_refused_even_with_a_valid_signature() {
    let bench = Bench::new();
    let header = bench.mint.header();
    let claims = bench.with("padding", "\">>>???>>>???\"");
    let url_safe = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
    bench
        .verify(&bench.mint.sign_segments(&url_safe(&header), &url_safe(&claims)))
        .unwrap();

    let standard = BASE64_STANDARD_NO_PAD.encode(&claims);
    assert!(standard.contains(['+', '/']));
    bench.refuses(&bench.mint.sign_segments(&url_safe(&header), &standard), "+ and /");

    // Add one space at a time, so that every length modulo 3 occurs.
    for spaces in ["", " ", "  "] {
        let (header, claims) = (format!("{header}{spaces}"), format!("{claims}{spaces}"));
        for (header_segment, claims_segment) in [
            (BASE64_URL_SAFE.encode(&header), url_safe(&claims)),
            (url_safe(&header), BASE64_URL_SAFE.encode(&claims)),
            (url_safe(&header), BASE64_STANDARD.encode(&claims)),
            (stray_bits(&url_safe(&header)), url_safe(&claims)),
            (url_safe(&header), stray_bits(&url_safe(&claims))),
        ] {
            if (&header_segment, &claims_segment) != (&url_safe(&header), &url_safe(&claims)) {
                bench.refuses(
                    &bench.mint.sign_segments(&header_segment, &claims_segment),
                    &claims_segment,
                );
            }
        }
    }

    let good = bench.good_token();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    bench.refuses(
        &format!("{signed}.{}", stray_bits(signature)),
        "stray bits of the signature",
    );
}

/// Returns a segment that a lenient decoder reads as the same bytes. It flips the lowest bit of the
/// last character, which carries no data unless the length is a multiple of 4.
fn stray_bits(segment: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = segment.split_at(segment.len() - 1);
    if segment.len().is_multiple_of(4) {
        return segment.to_owned();
    }
    let index = ALPHABET.find(last).unwrap();
    format!("{rest}{}", &ALPHABET[(index ^ 1)..=(index ^ 1)])
}

#[test]
fn tokens_over_8_kib_are_refused() {
    let bench = Bench::new();
    let (mut accepted, mut refused) = (0, 0);
    for padding in 5_000..6_144 {
        let token = bench.sign_claims(&bench.with("padding", &format!("{:?}", "p".repeat(padding))));
        if token.len() < MAX_TOKEN_LEN - 8 {
            continue;
        }
        if token.len() > MAX_TOKEN_LEN {
            bench.refuses(&token, "too long");
            refused += 1;
        } else {
            bench.verify(&token).unwrap();
            accepted += 1;
        }
        if refused > 8 {
            break;
        }
    }
    assert!(accepted > 0 && refused > 0);
}

#[test]
fn flipping_any_bit_invalidates_a_token() {
    let bench = Bench::new();
    let good = bench.good_token();
    bench.verify(&good).unwrap();
    for index in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone().into_bytes();
            bytes[index] ^= 1 << bit;
            if let Ok(token) = String::from_utf8(bytes) {
                bench.refuses(&token, &format!("bit {bit} of byte {index}"));
            }
        }
    }
}

#[test]
fn non_canonical_signatures_are_refused() {
    /// Order of the group, little-endian (RFC 8032, section 5.1).
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let bench = Bench::new();
    let good = bench.good_token();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let with_signature = |bytes: &[u8]| format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
    assert_eq!(with_signature(&signature), good);

    let mut malleated = signature.clone();
    for _ in 0..7 {
        let mut carry = 0;
        for (byte, order) in malleated[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        bench.refuses(&with_signature(&malleated), "S plus a multiple of the order");
    }

    let mut identity = [0; 64];
    identity[0] = 1;
    for bytes in [
        &[0; 64][..],
        &[0xff; 64],
        &identity,
        &signature[..63],
        &signature[..32],
        &[&signature[..], &[0]].concat(),
        &[&signature[..], &signature[..]].concat(),
        &[&signature[32..], &signature[..32]].concat(),
    ] {
        bench.refuses(&with_signature(bytes), "a made-up signature");
    }
    let other = TokenMint::fixed(2);
    bench.refuses(
        &other.sign_raw(&bench.mint.header(), &object(&bench.members())),
        "another key's signature",
    );
    bench.refuses(&other.sign(&bench.claims), "another key");
}

#[test]
fn no_text_makes_the_verifier_panic() {
    let bench = Bench::new();
    let segments = "[A-Za-z0-9_=-]{0,99}[.][A-Za-z0-9_-]{0,99}[.].{0,99}";
    proptest!(|(text in ".*", segments in segments)| {
        prop_assert!(bench.verify(&text).is_err());
        prop_assert!(bench.verify(&segments).is_err());
    });
}

#[test]
fn no_signed_text_makes_the_verifier_panic() {
    let bench = Bench::new();
    proptest!(|(header in ".{0,200}", claims in ".{0,200}", value in ".{0,9}", claim in 0_usize..13)| {
        prop_assert!(bench.verify(&bench.sign_header(&header)).is_err());
        prop_assert!(bench.verify(&bench.sign_claims(&claims)).is_err());
        let (name, _) = bench.members().remove(claim);
        // The token may be valid or not; the test only needs an answer without a panic.
        let _ = bench.verify(&bench.sign_claims(&bench.with(&name, &value)));
    });
}

#[test]
fn no_changed_token_verifies() {
    let bench = Bench::new();
    let good = bench.good_token();
    bench.verify(&good).unwrap();
    proptest!(|(index in any::<prop::sample::Index>(), new in any::<char>(), how in 0..3)| {
        let mut chars: Vec<char> = good.chars().collect();
        let index = index.index(chars.len());
        match how {
            0 => chars[index] = new,
            1 => chars.insert(index, new),
            _ => {
                chars.remove(index);
            }
        }
        let token: String = chars.into_iter().collect();
        prop_assume!(token != good);
        prop_assert!(bench.verify(&token).is_err());
    });
}
