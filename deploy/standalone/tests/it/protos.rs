//! Checks the protos as the reference of the API: everything in them has a comment, and every RPC
//! for outside clients has an HTTP form.

use std::collections::HashSet;

use prost_reflect::{DescriptorPool, EnumDescriptor, FileDescriptor, MessageDescriptor};
use proto::{auth, game};

/// Packages of our own protos.
const OURS: [&str; 3] = ["auth.v1", "authz.v1", "game.v1"];

fn pools() -> [DescriptorPool; 2] {
    let pool = |set: &[u8]| DescriptorPool::decode(set).expect("a descriptor set");
    [pool(auth::v1::FILE_DESCRIPTOR_SET), pool(game::v1::FILE_DESCRIPTOR_SET)]
}

#[test]
fn every_element_of_the_protos_has_a_comment() {
    let mut bare = Vec::new();
    let mut seen = HashSet::new();
    for file in pools().iter().flat_map(DescriptorPool::files) {
        if !OURS.contains(&file.package_name()) {
            continue;
        }
        let commented = commented(&file);
        let mut look = |name: &str, path: &[i32]| {
            seen.insert(name.to_owned());
            if !commented.contains(path) {
                bare.push(format!("{}: {name}", file.name()));
            }
        };
        for service in file.services() {
            look(service.full_name(), service.path());
            for method in service.methods() {
                look(method.full_name(), method.path());
            }
        }
        let mut messages: Vec<MessageDescriptor> = file.messages().collect();
        let mut enums: Vec<EnumDescriptor> = file.enums().collect();
        for extension in file.extensions() {
            look(extension.full_name(), extension.path());
        }
        while let Some(message) = messages.pop() {
            look(message.full_name(), message.path());
            for field in message.fields() {
                look(field.full_name(), field.path());
            }
            messages.extend(message.child_messages().filter(|child| !child.is_map_entry()));
            enums.extend(message.child_enums());
        }
        for one in enums {
            look(one.full_name(), one.path());
            for value in one.values() {
                look(value.full_name(), value.path());
            }
        }
    }
    for known in [
        "auth.v1.AuthService.Login",
        "auth.v1.Jwk.kty",
        "game.v1.MARK_X",
        "authz.v1.policy",
    ] {
        assert!(seen.contains(known), "{known} was not looked at");
    }
    assert!(bare.is_empty(), "without a comment:\n{}", bare.join("\n"));
}

/// RPCs that only services call, over gRPC.
const FOR_SERVICES: [&str; 6] = [
    "auth.v1.AccessFeedService.Watch",
    "auth.v1.AuthService.IntrospectToken",
    "auth.v1.AuthService.IssueServiceToken",
    "auth.v1.RbacService.BatchCheckPermissions",
    "auth.v1.RbacService.CheckPermission",
    "auth.v1.RbacService.RegisterPolicies",
];

#[test]
fn every_rpc_for_outside_clients_has_its_own_http_rule() {
    let (mut forms, mut without) = (HashSet::new(), Vec::new());
    for pool in pools() {
        let http = pool.get_extension_by_name("google.api.http").expect("the extension");
        for service in pool.services() {
            for method in service.methods() {
                let options = method.options();
                if !options.has_extension(&http) {
                    without.push(method.full_name().to_owned());
                    continue;
                }
                let form = options.get_extension(&http).to_string();
                assert!(
                    forms.insert(form.clone()),
                    "{} has the form of another: {form}",
                    method.full_name()
                );
            }
        }
    }
    assert!(forms.len() > 10, "{forms:?}");
    without.sort();
    assert_eq!(without, FOR_SERVICES);
}

/// Returns the paths of the elements of the file that have a comment right above them.
fn commented(file: &FileDescriptor) -> HashSet<Vec<i32>> {
    let file = file.file_descriptor_proto();
    let info = file.source_code_info.as_ref().expect("the comments are compiled in");
    let words = |comment: Option<&str>| comment.is_some_and(|comment| !comment.trim().is_empty());
    let locations = info.location.iter();
    locations
        .filter(|location| words(location.leading_comments.as_deref()))
        .map(|location| location.path.clone())
        .collect()
}
