//! Calls every RPC as every kind of caller. The policy layer must decide as the protos say, and
//! must not let anyone else through.
//!
//! The calls carry a message that cannot be decoded. A caller who passes the layer gets a decoding
//! error, so the call has no effect.

use std::collections::{BTreeMap, BTreeSet};

use access::policy::{Policies, Policy};
use proto::auth::v1::FILE_DESCRIPTOR_SET;
use testing::{
    TestDatabase, on_both_backends,
    rpc::{RawConnection, frame},
};
use tonic::Code;

use crate::support::callers::{Caller, server_with_root};

/// Truncated field key, which cannot be decoded as any message.
const UNDECODABLE: [u8; 1] = [0xff];

/// A kind of caller: its display name, its token, its reserved role (empty for none), and the
/// permissions that it was granted beyond that role.
struct Kind {
    name: String,
    token: String,
    role: &'static str,
    granted: BTreeSet<String>,
}

impl Kind {
    fn may(&self, policies: &Policies, policy: &Policy) -> bool {
        match policy {
            Policy::Public | Policy::Authenticated => true,
            Policy::Missing => false,
            Policy::Permission(permission) => {
                let name = permission.to_string();
                let all = format!("{}:all", permission.resource);
                let mut by_default = policies.default_grants();
                self.role == "superuser"
                    || self.granted.contains(&name)
                    || self.granted.contains(&all)
                    || by_default.any(|(role, granted)| role == self.role && granted == permission)
            }
        }
    }
}

async fn call(connection: &RawConnection, path: &str, token: &str) -> (Code, String) {
    let value = format!("Bearer {token}");
    let headers = [("authorization", value.as_str())];
    let headers = if token.is_empty() { &[][..] } else { &headers[..] };
    connection.begin(path, headers, frame(&UNDECODABLE)).await
}

fn is_past_the_layer((code, reason): &(Code, String)) -> bool {
    // The decoder follows the layer, and refuses every one of these calls with another error.
    !matches!(code, Code::Ok | Code::Unauthenticated | Code::Unimplemented)
        && reason != "PERMISSION_DENIED"
        && reason != "POLICY_MISSING"
}

fn kind(name: &str, caller: &Caller, role: &'static str, granted: &[&str]) -> Kind {
    Kind {
        name: name.to_owned(),
        token: caller.token.clone(),
        role,
        granted: granted.iter().map(|granted| (*granted).to_owned()).collect(),
    }
}

#[on_both_backends]
async fn every_rpc_is_allowed_exactly_as_its_proto_declares(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let policies = Policies::from_descriptor_set(FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let player = server.register("ann").await.tokens.expect("tokens").access_token;
    let player = Caller::with_token(&server, &player, "");
    let mut kinds = vec![
        kind("superuser", &root, "superuser", &[]),
        kind("player", &player, "player", &[]),
        kind(
            "admin",
            &root.service(&server, "the-admin", &["admin"], &[]).await,
            "admin",
            &[],
        ),
        kind(
            "service",
            &root.service(&server, "the-service", &["service"], &[]).await,
            "service",
            &[],
        ),
        kind("nobody", &root.service(&server, "nobody", &[], &[]).await, "", &[]),
    ];
    let mut resources = BTreeMap::new();
    for (number, (name, permission)) in policies.permissions().into_iter().enumerate() {
        // Half of the callers hold their permission through a role, the other half directly.
        let client_id = format!("one-{number}");
        let caller = if number % 2 == 0 {
            let role = format!("role_{number}");
            root.make_role(&role, &[&name]).await;
            root.service(&server, &client_id, &[&role], &[]).await
        } else {
            root.service(&server, &client_id, &[], &[&name]).await
        };
        kinds.push(kind(&format!("holder of {name}"), &caller, "", &[&name]));
        resources.entry(permission.resource.clone()).or_insert(name);
    }
    for (number, resource) in resources.keys().enumerate() {
        let (role, all) = (format!("all_{number}"), format!("{resource}:all"));
        root.make_role(&role, &[&all]).await;
        let caller = root.service(&server, &format!("all-{number}"), &[&role], &[]).await;
        kinds.push(kind(&format!("holder of {all}"), &caller, "", &[&all]));
    }

    let connection = RawConnection::open(server.grpc).await;
    for (path, policy) in policies.iter() {
        let answer = call(&connection, path, "").await;
        if *policy == Policy::Public {
            assert!(is_past_the_layer(&answer), "{path} without a token: {answer:?}");
        } else {
            assert_eq!(answer, (Code::Unauthenticated, "TOKEN_MISSING".to_owned()), "{path}");
        }
        for kind in &kinds {
            let answer = call(&connection, path, &kind.token).await;
            let needs_two = policies.step_up(path).is_some_and(|step_up| step_up.acr.is_some());
            if needs_two && kind.role == "player" {
                // The only person here, who has logged in with a password.
                assert_eq!(answer, (Code::Unauthenticated, "STEP_UP_REQUIRED".to_owned()), "{path}");
            } else if kind.may(&policies, policy) {
                assert!(is_past_the_layer(&answer), "{path} as {}: {answer:?}", kind.name);
            } else {
                let refused = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
                assert_eq!(answer, refused, "{path} as {}", kind.name);
            }
        }
    }
}

#[on_both_backends]
async fn undeclared_methods_are_not_served(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let connection = RawConnection::open(server.grpc).await;
    for path in [
        "/auth.v1.RbacService/Nothing",
        "/auth.v1.Nothing/CreateRole",
        "/auth.v1.RbacService/createRole",
        "/",
    ] {
        for token in ["", &root.token] {
            let (code, reason) = call(&connection, path, token).await;
            assert_eq!(
                (code, reason.as_str()),
                (Code::Unimplemented, "METHOD_UNKNOWN"),
                "{path}"
            );
        }
    }
}
