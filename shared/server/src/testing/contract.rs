//! Requirements that every gRPC server must meet, whatever it serves. The tests of each service
//! call these functions.

use std::net::SocketAddr;

use access::{
    policy::{Policies, Policy},
    testing::tokens::TokenMint,
};
use base::{
    clock::Timestamp,
    ids::UserId,
    testing::rpc::{RawConnection, channel, frame, frame_declaring, reason},
};
use tonic::{Code, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::MAX_MESSAGE_LEN;

/// Public RPCs that require an access token, or fields in its place.
const TOKEN_OR_FIELDS: [&str; 4] = [
    "/RequestEmailVerification",
    "/VerifyEmail",
    "/ChangeEmail",
    "/ConfirmEmailChange",
];

/// Asserts that every RPC needs a token, except those that the protos declare public.
pub async fn every_rpc_needs_a_token(address: SocketAddr, descriptor_set: &[u8]) {
    let policies = Policies::from_descriptor_set(descriptor_set).expect("a descriptor set");
    let connection = RawConnection::open(address).await;
    for (path, policy) in policies.iter() {
        let call = async |headers: &[(&str, &str)]| {
            connection
                .call(path, headers, frame(&[]))
                .await
                .expect("an answer")
                .code_and_reason()
        };
        let (code, reason) = call(&[]).await;
        if path.ends_with("/Logout") {
            // It is public, because a refresh token does as well.
            assert_eq!(reason, "TOKEN_MISSING");
            continue;
        }
        if *policy == Policy::Public && TOKEN_OR_FIELDS.iter().any(|name| path.ends_with(name)) {
            let (_, with_a_bad_token) = call(&[("authorization", "Bearer x.y.z")]).await;
            assert_eq!(
                (reason.as_str(), with_a_bad_token.as_str()),
                ("FIELDS_INVALID", "TOKEN_INVALID"),
                "{path}"
            );
            continue;
        }
        if *policy == Policy::Public {
            let (_, with_a_bad_token) = call(&[("authorization", "Bearer x.y.z")]).await;
            assert!(
                !reason.starts_with("TOKEN_") && reason == with_a_bad_token,
                "{path}: {reason}"
            );
            assert_ne!(
                (code, reason.as_str()),
                (Code::PermissionDenied, "PERMISSION_DENIED"),
                "{path}"
            );
            continue;
        }
        assert_eq!(
            (code, reason.as_str()),
            (Code::Unauthenticated, "TOKEN_MISSING"),
            "{path} without a token"
        );
        for empty in ["Bearer ", "bearer", "Bearer"] {
            let (code, reason) = call(&[("authorization", empty)]).await;
            assert_eq!(
                (code, reason.as_str()),
                (Code::Unauthenticated, "TOKEN_MISSING"),
                "{path} with {empty:?}"
            );
        }
        for bad in ["Bearer x.y.z", "Bearer v1.x.1.y", "Basic YTpi", "x"] {
            let (code, reason) = call(&[("authorization", bad)]).await;
            assert_eq!(
                (code, reason.as_str()),
                (Code::Unauthenticated, "TOKEN_INVALID"),
                "{path} with {bad:?}"
            );
        }
    }
}

/// Asserts that each role may call exactly the RPCs that the protos say. A superuser may call every
/// RPC. A user without a known role may call none that needs a permission.
pub async fn roles_hold_what_the_protos_say(
    address: SocketAddr,
    descriptor_set: &[u8],
    mint: &TokenMint,
    now: Timestamp,
) {
    let policies = Policies::from_descriptor_set(descriptor_set).expect("a descriptor set");
    let connection = RawConnection::open(address).await;
    let roles: [&[&str]; 6] = [&[], &["nobody"], &["superuser"], &["admin"], &["player"], &["service"]];
    for (roles, (path, policy)) in roles
        .iter()
        .flat_map(|roles| policies.iter().map(move |rpc| (*roles, rpc)))
    {
        let token = mint.sign(&mint.claims_for(UserId::generate(), "ann", roles, now));
        let value = format!("Bearer {token}");
        let headers = [("authorization", value.as_str())];
        let (code, reason) = connection.begin(path, &headers, frame(&[])).await;
        let allowed = match policy {
            Policy::Public | Policy::Authenticated => true,
            Policy::Permission(permission) => {
                roles.contains(&"superuser")
                    || policies
                        .default_grants()
                        .any(|(role, granted)| granted == permission && roles.contains(&role))
            }
            Policy::Missing => false,
        };
        let refused = code == Code::PermissionDenied && reason == "PERMISSION_DENIED";
        assert_eq!(!refused, allowed, "{path} as {roles:?}: {code:?} {reason}");
        assert!(
            code != Code::Unauthenticated || *policy == Policy::Public,
            "{path} as {roles:?}: {reason}"
        );
    }
}

/// Asserts that faulty tokens are refused by an RPC of a server that trusts the mint's key.
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
pub async fn invalid_tokens_are_refused(address: SocketAddr, path: &str, mint: &TokenMint, now: Timestamp) {
    let good = mint.claims_for(UserId::generate(), "ann", &["player"], now);
    let connection = RawConnection::open(address).await;
    let call = async |token: &str| {
        let value = format!("Bearer {token}");
        let answer = connection.call(path, &[("authorization", &value)], frame(&[])).await;
        answer.map(|answer| answer.code_and_reason())
    };
    let (code, _) = call(&mint.sign(&good)).await.expect("an answer");
    assert_ne!(code, Code::Unauthenticated, "a good token");

    let claims = serde_json::to_value(&good).expect("claims are JSON");
    let header: serde_json::Value = serde_json::from_str(&mint.header()).expect("a header is JSON");
    let altered = |of: &serde_json::Value, name: &str, value: Option<serde_json::Value>| {
        let mut object = of.as_object().expect("an object").clone();
        match value {
            Some(value) => object.insert(name.to_owned(), value),
            None => object.remove(name),
        };
        serde_json::Value::Object(object).to_string()
    };
    let mut tokens = vec![
        ("a foreign key".to_owned(), TokenMint::random().sign(&good)),
        ("four segments".to_owned(), format!("{}.x", mint.sign(&good))),
        ("padding".to_owned(), format!("{}==", mint.sign(&good))),
        ("a second signature".to_owned(), mint.sign(&good) + &mint.sign(&good)),
    ];
    for (name, value) in [
        ("typ", None),
        ("typ", Some("JWT".into())),
        ("alg", Some("none".into())),
        ("alg", Some("HS256".into())),
        ("kid", Some("../../etc/passwd".into())),
        ("crit", Some(serde_json::json!(["exp"]))),
        ("jku", Some("http://127.0.0.1:1/jwks.json".into())),
    ] {
        tokens.push((
            format!("header {name} {value:?}"),
            mint.sign_raw(&altered(&header, name, value), &claims.to_string()),
        ));
    }
    let (iat, exp) = (good.iat, good.exp);
    for (name, value) in [
        ("iss", Some("somebody".into())),
        ("aud", Some("somewhere".into())),
        ("aud", Some(serde_json::json!([]))),
        ("aud", Some(serde_json::json!(["somewhere", "elsewhere"]))),
        ("aud", Some(serde_json::json!({"0": good.aud}))),
        ("sub", None),
        ("sub", Some("ann".into())),
        ("jti", None),
        ("client_id", None),
        ("exp", None),
        ("exp", Some(exp.to_string().into())),
        ("exp", Some(serde_json::json!(1.5e9))),
        ("exp", Some((-1).into())),
    ] {
        tokens.push((
            format!("claim {name} {value:?}"),
            mint.sign_raw(&mint.header(), &altered(&claims, name, value)),
        ));
    }
    let twice = claims.to_string().replacen('{', "{\"sub\":\"x\",", 1);
    tokens.push(("a claim twice".to_owned(), mint.sign_raw(&mint.header(), &twice)));
    for (what, token) in &tokens {
        let (code, reason) = call(token).await.expect("an answer");
        assert_eq!(
            (code, reason.as_str()),
            (Code::Unauthenticated, "TOKEN_INVALID"),
            "{what}"
        );
    }
    let expired = altered(&claims, "exp", Some((iat - 30).into()));
    let (code, reason) = call(&mint.sign_raw(&mint.header(), &expired)).await.expect("an answer");
    assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "TOKEN_EXPIRED"));

    for name in ["nbf", "iat"] {
        let early = altered(&claims, name, Some((iat + 31).into()));
        let (code, reason) = call(&mint.sign_raw(&mint.header(), &early)).await.expect("an answer");
        assert_eq!(
            (code, reason.as_str()),
            (Code::Unauthenticated, "TOKEN_NOT_YET_VALID"),
            "{name}"
        );
    }

    // Two tokens could be those of two callers. A token larger than the limit on metadata is
    // refused before it is read.
    let value = format!("Bearer {}", mint.sign(&good));
    let both = [("authorization", value.as_str()), ("authorization", value.as_str())];
    let answer = connection.call(path, &both, frame(&[])).await.expect("an answer");
    assert_eq!(
        answer.code_and_reason(),
        (Code::Unauthenticated, "TOKEN_INVALID".to_owned())
    );
    let accepted = call(&mint.sign(&good)).await.expect("an answer");
    let huge = call(&"x".repeat(1 << 20)).await;
    assert!(
        huge.is_err() || huge.is_ok_and(|answer| answer != accepted),
        "a token of 1 MiB"
    );
}

/// Asserts that malformed requests are refused. `path` is an RPC that `headers` may call and whose
/// first field is a string.
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
pub async fn malformed_requests_are_refused(address: SocketAddr, path: &str, headers: &[(&str, &str)]) {
    let call = async |body: Vec<u8>, more: &[(&str, &str)]| {
        let headers = [headers, more].concat();
        RawConnection::open(address).await.call(path, &headers, body).await
    };
    let large = MAX_MESSAGE_LEN + 1;
    for (what, body, more, code, reason) in [
        (
            "too large",
            frame(&vec![0; large]),
            [].as_slice(),
            Code::OutOfRange,
            "MESSAGE_TOO_LARGE",
        ),
        (
            "4 MiB declared",
            frame_declaring(false, 4 << 20, b"x"),
            &[],
            Code::OutOfRange,
            "MESSAGE_TOO_LARGE",
        ),
        (
            "compressed, unannounced",
            frame_declaring(true, 1, b"x"),
            &[],
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            "compressed",
            frame_declaring(true, 1, b"x"),
            &[("grpc-encoding", "gzip")],
            Code::Unimplemented,
            "COMPRESSION_UNSUPPORTED",
        ),
        (
            "no message",
            Vec::new(),
            &[],
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            "cut short",
            frame_declaring(false, 10, b"x"),
            &[],
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            "not protobuf",
            frame(&[0xff; 16]),
            &[],
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            "not UTF-8",
            frame(&[0x0a, 2, 0xc3, 0x28]),
            &[],
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            "a wrong wire type",
            frame(&[0x08, 1]),
            &[],
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            "a field that nobody knows",
            frame(&[0xfa, 0x7f, 1, 0x20]),
            &[],
            Code::InvalidArgument,
            "FIELDS_INVALID",
        ),
    ] {
        let answer = call(body, more).await.expect("an answer");
        assert_eq!(
            answer.code_and_reason(),
            (code, reason.to_owned()),
            "{what}: {}",
            answer.status
        );
        assert!(answer.headers.contains_key("x-request-id"), "{what}");
    }
    let much = "x".repeat(40 << 10);
    let answer = call(frame(&[]), &[("x-much", &much)]).await;
    assert!(
        !answer.is_ok_and(|answer| answer.http_status == 200),
        "40 KiB of metadata"
    );
    let answer = RawConnection::open(address)
        .await
        .call("/nothing.v1.Nothing/Do", &[], frame(&[]))
        .await;
    let answer = answer.expect("an answer");
    assert_eq!(
        answer.code_and_reason(),
        (Code::Unimplemented, "METHOD_UNKNOWN".to_owned())
    );
}

/// Asserts that deadlines of every kind are honoured. `path` is an RPC that `headers` may call.
pub async fn deadlines_are_honoured(address: SocketAddr, path: &str, headers: &[(&str, &str)]) {
    let connection = RawConnection::open(address).await;
    let call = async |timeout: &str| {
        let headers = [headers, &[("grpc-timeout", timeout)]].concat();
        connection
            .call(path, &headers, frame(&[]))
            .await
            .expect("an answer")
            .code_and_reason()
    };
    for over in ["0n", "0m", "0H", "1n", "1u"] {
        assert_eq!(
            call(over).await,
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()),
            "{over}"
        );
    }
    for malformed in ["", "1", "S", "-1S", "1.5S", "123456789m", "1s", "soon"] {
        assert_eq!(
            call(malformed).await,
            (Code::InvalidArgument, "DEADLINE_INVALID".to_owned()),
            "{malformed:?}"
        );
    }
    let (code, reason) = call("10S").await;
    assert!(!reason.starts_with("DEADLINE"), "{code:?} {reason}");
}

/// Waits until the health service reports SERVING.
pub async fn serving(address: SocketAddr) {
    let mut health = HealthClient::new(channel(address));
    let mut changes = health
        .watch(HealthCheckRequest::default())
        .await
        .expect("health")
        .into_inner();
    while let Some(change) = changes.message().await.expect("health") {
        if change.status() == ServingStatus::Serving {
            return;
        }
    }
    panic!("health ended before it said SERVING");
}

/// Messages that clients need to decode the details of an error.
const ERROR_MESSAGES: [&str; 5] = [
    "authz.v1.ErrorReason",
    "google.rpc.BadRequest",
    "google.rpc.ErrorInfo",
    "google.rpc.ResourceInfo",
    "google.rpc.RetryInfo",
];

/// Asserts that health is served for the server and each of its services, and that both versions of
/// reflection are served. Each version must list the services and describe the messages of error
/// details.
pub async fn health_and_reflection_are_served(address: SocketAddr, descriptor_set: &[u8]) {
    let policies = Policies::from_descriptor_set(descriptor_set).expect("a descriptor set");
    let mut health = HealthClient::new(channel(address));
    for service in policies.services().iter().map(String::as_str).chain([""]) {
        let answer = health
            .check(HealthCheckRequest {
                service: service.to_owned(),
            })
            .await
            .expect("known");
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service}");
    }
    let unknown = health
        .check(HealthCheckRequest {
            service: "nothing".to_owned(),
        })
        .await;
    let unknown = unknown.expect_err("unknown");
    assert_eq!(
        (unknown.code(), reason(&unknown).as_str()),
        (Code::NotFound, "SERVICE_UNKNOWN")
    );

    // Both versions have the same messages, but as different types.
    macro_rules! check_reflection {
        ($version:ident) => {{
            use $version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let mut client = ServerReflectionClient::new(channel(address));
            let mut ask = async |question: MessageRequest| {
                let request = ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(question),
                };
                let answers = client.server_reflection_info(tokio_stream::once(request)).await;
                let answer = answers.expect("reflection").into_inner().message().await;
                answer.expect("an answer").expect("one answer").message_response
            };
            for message in ERROR_MESSAGES {
                let answer = ask(MessageRequest::FileContainingSymbol(message.to_owned())).await;
                assert!(
                    matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))),
                    "{message}: {answer:?}"
                );
            }
            match ask(MessageRequest::ListServices(String::new())).await {
                Some(MessageResponse::ListServicesResponse(list)) => {
                    list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
                }
                other => panic!("{other:?}"),
            }
        }};
    }
    for listed in [check_reflection!(v1), check_reflection!(v1alpha)] {
        for service in policies.services() {
            assert!(listed.contains(service), "{service} is not in {listed:?}");
        }
        assert!(listed.iter().any(|name| name == "grpc.health.v1.Health"), "{listed:?}");
    }
}

/// Opens as many reflection streams as this machine may have, and asserts that neither a connection
/// nor an address may take all of the server's. The streams end when the result is dropped.
pub async fn open_all_reflection_streams(address: SocketAddr) -> Vec<Streaming<v1::ServerReflectionResponse>> {
    let mut taken = Vec::new();
    loop {
        let before = taken.len();
        let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(address));
        let refused = loop {
            match client.server_reflection_info(tokio_stream::pending()).await {
                Ok(stream) => taken.push(stream.into_inner()),
                Err(status) => break status,
            }
        };
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::ResourceExhausted, "OVERLOADED"),
            "{refused}"
        );
        match taken.len() - before {
            // The address has used up its share.
            0 => break,
            of_connection => assert_eq!(of_connection, 16),
        }
    }
    assert_eq!(taken.len(), 64);
    taken
}
