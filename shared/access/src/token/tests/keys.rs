//! Tests of valid and faulty key sets in every form in which they can be given.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use proto::auth;

use super::super::{Jwk, Jwks, KeyError, pem::public_keys};
use crate::testing::tokens::TokenMint;

/// Returns a public key as a PEM file and as DER.
pub(super) fn pem(public_key: &[u8; 32]) -> (String, Vec<u8>) {
    let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    der.extend_from_slice(public_key);
    (section("PUBLIC KEY", &der), der)
}

fn section(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        BASE64_STANDARD.encode(der)
    )
}

fn key(members: &str) -> Result<Jwks, KeyError> {
    Jwks::from_json(format!(r#"{{"keys":[{{{members}}}]}}"#).as_bytes())
}

/// Returns the points of small order, with either sign, and every encoding that is not canonical.
fn weak_keys() -> Vec<[u8; 32]> {
    let order_8 = [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    let mut keys: Vec<[u8; 32]> = order_8
        .iter()
        .map(|hex| std::array::from_fn(|index| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap()))
        .collect();
    keys.push([0; 32]);
    keys.push(std::array::from_fn(|index| u8::from(index == 0)));
    // Values of y from p - 1 (which is -1) through p and p + 1 to 2^255 - 1.
    for lowest in 0xec..=0xff {
        let mut key = [0xff; 32];
        (key[0], key[31]) = (lowest, 0x7f);
        keys.push(key);
    }
    for index in 0..keys.len() {
        let mut signed = keys[index];
        signed[31] |= 0x80;
        keys.push(signed);
    }
    keys
}

#[test]
fn the_kid_is_the_thumbprint_of_the_key() {
    // Example of RFC 8037, appendix A.3.
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let public_key = BASE64_URL_SAFE_NO_PAD.decode(x).unwrap().try_into().unwrap();
    let jwk = Jwk::from_public_key(&public_key).unwrap();
    assert_eq!(jwk.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let unnamed = key(&format!(r#""kty":"OKP","crv":"Ed25519","x":"{x}""#)).unwrap();
    assert_eq!(unnamed.keys(), [jwk]);
}

#[test]
fn a_key_set_survives_encoding_and_decoding() {
    let set = Jwks::new(vec![
        TokenMint::fixed(1).jwk().clone(),
        TokenMint::fixed(2).jwk().clone(),
    ])
    .unwrap();
    let json = serde_json::to_vec(&set).unwrap();
    assert_eq!(Jwks::from_json(&json), Ok(set.clone()));
    assert_eq!(Jwks::try_from(auth::v1::GetJwksResponse::from(&set)), Ok(set));
    let first: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let members: Vec<_> = first["keys"][0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
}

#[test]
fn weak_keys_are_refused_in_every_form() {
    for public_key in weak_keys() {
        let x = BASE64_URL_SAFE_NO_PAD.encode(public_key);
        let bad = |result: Result<Jwks, KeyError>| matches!(result, Err(KeyError::BadKey(_)));
        assert!(bad(Jwk::from_public_key(&public_key).map(Into::into)), "{x}");
        assert!(bad(key(&format!(r#""kty":"OKP","crv":"Ed25519","x":"{x}""#))), "{x}");
        assert!(bad(public_keys(pem(&public_key).0.as_bytes())), "{x}");
        let proto = auth::v1::Jwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: x.clone(),
            ..Default::default()
        };
        assert!(bad(auth::v1::GetJwksResponse { keys: vec![proto] }.try_into()), "{x}");
    }
}

#[test]
fn keys_for_other_uses_are_ignored() {
    let mint = TokenMint::fixed(1);
    let ours = serde_json::to_string(mint.jwk()).unwrap();
    for other in [
        r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned(),
        r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(),
        r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#.to_owned(),
        r#"{"kty":"OKP","crv":"Ed448","x":"AA"}"#.to_owned(),
        r#"{"kty":"new","whatever":{}}"#.to_owned(),
        "{}".to_owned(),
        ours.replace("\"sig\"", "\"enc\""),
        ours.replace("EdDSA", "HS256"),
        ours.replace("\"use\":\"sig\"", "\"key_ops\":[\"sign\"]"),
    ] {
        let both = format!(r#"{{"keys":[{other},{ours}]}}"#);
        assert_eq!(Jwks::from_json(both.as_bytes()), Ok(mint.jwks()), "{other}");
        let alone = format!(r#"{{"keys":[{other}]}}"#);
        assert_eq!(Jwks::from_json(alone.as_bytes()), Err(KeyError::Empty), "{other}");
    }
    let verifies = ours.replace("\"use\":\"sig\"", "\"key_ops\":[\"verify\"]");
    assert_eq!(
        Jwks::from_json(format!(r#"{{"keys":[{verifies}]}}"#).as_bytes()),
        Ok(mint.jwks())
    );
}

#[test]
fn a_key_set_with_a_private_key_is_refused() {
    let ours = serde_json::to_string(TokenMint::fixed(1).jwk()).unwrap();
    for private in [
        ours.replace("\"kty\"", "\"d\":\"AA\",\"kty\""),
        ours.replace("\"kty\"", "\"d\":null,\"kty\""),
        r#"{"kty":"oct","k":"AA"}"#.to_owned(),
        r#"{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AA"}"#.to_owned(),
        r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"AA","priv":"AA"}"#.to_owned(),
    ] {
        for set in [
            format!(r#"{{"keys":[{private},{ours}]}}"#),
            format!(r#"{{"keys":[{ours},{private}]}}"#),
        ] {
            assert_eq!(Jwks::from_json(set.as_bytes()), Err(KeyError::PrivateKey), "{set}");
        }
    }
}

#[test]
fn a_key_set_with_a_repeated_kid_is_refused() {
    let key = TokenMint::fixed(1).jwk().clone();
    let twice = KeyError::DuplicateKid(key.kid().to_owned());
    assert_eq!(Jwks::new(vec![key.clone(), key.clone()]), Err(twice.clone()));
    let json = serde_json::to_string(&key).unwrap();
    assert_eq!(
        Jwks::from_json(format!(r#"{{"keys":[{json},{json}]}}"#).as_bytes()),
        Err(twice)
    );
    let other = serde_json::to_string(TokenMint::fixed(2).jwk()).unwrap();
    let other = other.replace(TokenMint::fixed(2).jwk().kid(), key.kid());
    assert!(matches!(
        Jwks::from_json(format!(r#"{{"keys":[{json},{other}]}}"#).as_bytes()),
        Err(KeyError::DuplicateKid(_))
    ));
}

#[test]
fn malformed_key_sets_are_refused() {
    for json in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        r#"{"keys":["a"]}"#,
        r#"{"keys":[{"kty":7}]}"#,
        r#"{"keys":[],"keys":[]}"#,
        "{\"keys\":[]}x",
        "<html></html>",
    ] {
        assert_eq!(Jwks::from_json(json.as_bytes()), Err(KeyError::NotKeys), "{json}");
    }
    assert_eq!(Jwks::from_json(br#"{"keys":[]}"#), Err(KeyError::Empty));
    let long_kid = "k".repeat(65);
    let x = BASE64_URL_SAFE_NO_PAD.encode(TokenMint::fixed(1).jwk().public_key());
    for members in [
        r#""kty":"OKP","crv":"Ed25519""#.to_owned(),
        r#""kty":"OKP","crv":"Ed25519","x":"AA""#.to_owned(),
        format!(r#""kty":"OKP","crv":"Ed25519","x":"{x}=""#),
        format!(r#""kty":"OKP","crv":"Ed25519","x":"{x}","kid":"""#),
        format!(r#""kty":"OKP","crv":"Ed25519","x":"{x}","kid":"{long_kid}""#),
    ] {
        assert!(matches!(key(&members), Err(KeyError::BadKey(_))), "{members}");
    }
}

#[test]
fn pem_holds_one_or_several_public_keys_and_nothing_else() {
    let mints = [TokenMint::fixed(1), TokenMint::fixed(2)];
    let [one, two] = mints.each_ref().map(|mint| pem(mint.jwk().public_key()).0);
    assert_eq!(public_keys(one.as_bytes()), Ok(mints[0].jwks()));
    let both = format!("The keys of 2024:\n{one}\nand of 2025:\n{two}");
    for text in [both.clone(), both.replace('\n', "\r\n")] {
        let keys = public_keys(text.as_bytes()).unwrap();
        assert_eq!(keys.keys(), mints.each_ref().map(|mint| mint.jwk().clone()));
    }
    let private = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)
        .unwrap()
        .serialize_pem();
    for (text, error) in [
        (String::new(), KeyError::NotKeys),
        ("ssh-ed25519 AAAA ada@example".to_owned(), KeyError::NotKeys),
        (one.replace("MC", "M!"), KeyError::NotKeys),
        (one.replace("-----END", "END"), KeyError::NotKeys),
        (private.clone(), KeyError::PrivateKey),
        (format!("{one}{private}"), KeyError::PrivateKey),
        (section("ENCRYPTED PRIVATE KEY", b"x"), KeyError::PrivateKey),
        (section("OPENSSH PRIVATE KEY", b"x"), KeyError::PrivateKey),
        (section("RSA PRIVATE KEY", b"x"), KeyError::PrivateKey),
        (format!("{one}{}", section("CERTIFICATE", b"x")), KeyError::OtherPem),
        (
            format!("{one}{one}"),
            KeyError::DuplicateKid(mints[0].jwk().kid().to_owned()),
        ),
    ] {
        assert_eq!(public_keys(text.as_bytes()), Err(error), "{text}");
    }
    let other_key = section("PUBLIC KEY", b"an RSA key");
    assert!(matches!(public_keys(other_key.as_bytes()), Err(KeyError::BadKey(_))));
}
