//! Fuzz targets for the parser of policies in descriptor sets.

use std::panic::catch_unwind;

use ::proto::{authz::v1 as proto, game};
use base::testing::fuzz::Target;
use prost::{
    Message as _,
    encoding::{decode_varint, encode_varint},
};
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorSet;

use super::{Policies, Policy};

/// Field number of the extension `authz.v1.policy` in the options of a method.
const POLICY: u32 = 50_817;
const PATH: &str = "/fuzz.Fuzz/Call";

/// Encodes a length-delimited field: a message, a string or bytes.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(u64::from(number) << 3 | 2, &mut bytes);
    encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

/// Returns the files of game-service's descriptor set whose names `takes` accepts. They are copied
/// as encoded, because the typed form drops extensions.
fn files(takes: impl Fn(&str) -> bool) -> Vec<u8> {
    let set = game::v1::FILE_DESCRIPTOR_SET;
    let typed = FileDescriptorSet::decode(set).expect("a descriptor set");
    let (mut taken, mut rest) = (Vec::new(), set);
    for file in &typed.file {
        assert_eq!(
            decode_varint(&mut rest),
            Ok(1 << 3 | 2),
            "a set is files and nothing else"
        );
        let len = usize::try_from(decode_varint(&mut rest).expect("a length")).expect("a small one");
        let (encoded, after) = rest.split_at(len);
        rest = after;
        if takes(file.name()) {
            taken.extend(field(1, encoded));
        }
    }
    taken
}

/// Builds a descriptor set with one RPC that has this encoded policy.
fn with_policy(options: &[u8], policy: &[u8]) -> Vec<u8> {
    let types = [field(2, b".authz.v1.Policy"), field(3, b".authz.v1.Policy")].concat();
    let method = [field(1, b"Call"), types, field(4, &field(POLICY, policy))].concat();
    let service = [field(1, b"Fuzz"), field(2, &method)].concat();
    let file = [
        field(1, b"fuzz.proto"),
        field(2, b"fuzz"),
        field(3, b"authz/v1/options.proto"),
        field(6, &service),
        field(12, b"proto3"),
    ];
    [options, &field(1, &file.concat())].concat()
}

fn permission(resource: &str, action: &str, roles: &[&str]) -> proto::Permission {
    proto::Permission {
        resource: resource.to_owned(),
        action: action.to_owned(),
        default_roles: roles.iter().map(|&role| role.to_owned()).collect(),
    }
}

/// Compares the result with how prost decodes the same bytes.
#[test]
fn fuzz_descriptor_policies() {
    let options = files(|name| name.starts_with("google/protobuf/") || name.starts_with("authz/"));
    let rules = [
        proto::policy::Rule::Public(proto::Public {}),
        proto::policy::Rule::Authenticated(proto::Authenticated {}),
        proto::policy::Rule::Permission(permission("games", "create", &["player", "admin"])),
        proto::policy::Rule::Permission(permission("", "create", &[])),
    ];
    let encoded = rules.map(|rule| {
        let conditional = vec![permission("history", "read_all", &["admin"])];
        proto::Policy {
            rule: Some(rule),
            conditional,
            exact_audience: true,
            step_up: Some(proto::StepUp {
                max_auth_age_seconds: 600,
                acr: "2".to_owned(),
            }),
        }
        .encode_to_vec()
    });
    Target {
        corpus: include_str!("fuzz/policies.txt"),
        genuine: &encoded.each_ref().map(Vec::as_slice),
        pieces: &[
            "\0",
            "\x01",
            "\x08",
            "\x0a",
            "\x0a\0",
            "\x12",
            "\x12\0",
            "\x1a",
            "\x1a\0",
            "\x22",
            "\x7f",
            "\n\x05games",
            "\x32\0",
            "\x32\x03\x12\x012",
        ],
    }
    .bytes(|bytes| {
        let typed = proto::Policy::decode(bytes);
        let Ok(policies) = Policies::from_descriptor_set(&with_policy(&options, bytes)) else {
            return;
        };
        let typed = typed.expect("what is no message is no policy either");
        let expected = match typed.rule {
            None => Policy::Missing,
            Some(proto::policy::Rule::Public(_)) => Policy::Public,
            Some(proto::policy::Rule::Authenticated(_)) => Policy::Authenticated,
            Some(proto::policy::Rule::Permission(permission)) => Policy::Permission(super::Permission {
                resource: permission.resource,
                action: permission.action,
            }),
        };
        assert_eq!(policies.get(PATH), Some(&expected));
        assert_eq!(policies.wants_exact_audience(PATH), typed.exact_audience);
        let step_up = policies.step_up(PATH);
        assert_eq!(step_up.is_some(), typed.step_up.is_some());
        assert!(step_up.is_none_or(|step_up| step_up.max_age.as_secs() >= 60));
        for (name, permission) in policies.permissions() {
            assert!(
                !permission.resource.is_empty() && !permission.action.is_empty(),
                "{name} has no name"
            );
        }
        for (role, permission) in policies.default_grants() {
            let is_needed = policies.permissions().contains_key(&permission.to_string());
            assert!(is_needed, "{role} gets {permission}, which no RPC needs");
        }
    });
}

/// Mutates whole descriptor sets, not only the policies in them.
#[test]
fn fuzz_descriptor_sets() {
    let small = files(|name| !name.starts_with("game/") || name.ends_with("/game.proto") || name.contains("history"));
    let genuine = Policies::from_descriptor_set(&small).expect("readable");
    assert!(genuine.iter().count() >= 2);
    Target {
        corpus: include_str!("fuzz/descriptor_sets.txt"),
        genuine: &[&small],
        pieces: &[
            "\0",
            "\x01",
            "\x08",
            "\x0a",
            "\x12",
            "\x1a",
            "\x22",
            "\x7f",
            "games",
            "authz.v1.policy",
        ],
    }
    .bytes(|bytes| {
        // prost-reflect 0.16.5 panics on some faulty sets while it formats the error (`Label::new`
        // indexes a file that has not been added). This is harmless in production, because a
        // service reads only the set that it was built with.
        if catch_unwind(|| DescriptorPool::decode(bytes)).is_err() {
            return;
        }
        let Ok(policies) = Policies::from_descriptor_set(bytes) else {
            return;
        };
        for (path, policy) in policies.iter() {
            let (service, method) = path[1..].split_once('/').expect("a path");
            assert!(policies.services().iter().any(|known| known == service) && !method.is_empty());
            assert_eq!(policies.get(path), Some(policy));
        }
    });
}
