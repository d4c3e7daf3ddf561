//! Requirements that every gRPC server of the workspace meets: authentication, health, reflection
//! and deadlines.

use proto::auth::v1::{FILE_DESCRIPTOR_SET, LoginRequest};
use testing::{
    TestDatabase, contract, on_both_backends,
    rpc::{RawConnection, frame},
};
use tonic::Code;

use crate::support::{Server, settings};

#[on_both_backends]
async fn every_rpc_needs_a_token(database: TestDatabase) {
    let server = Server::start(database).await;
    contract::every_rpc_needs_a_token(server.grpc, FILE_DESCRIPTOR_SET).await;
}

#[on_both_backends]
async fn health_and_reflection_are_served(database: TestDatabase) {
    let server = Server::start(database).await;
    contract::serving(server.grpc).await;
    contract::health_and_reflection_are_served(server.grpc, FILE_DESCRIPTOR_SET).await;
}

#[on_both_backends]
async fn malformed_requests_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    contract::malformed_requests_are_refused(server.grpc, "/auth.v1.AuthService/Login", &[]).await;
    // The server still works afterwards.
    server.register("ann").await;
}

#[on_both_backends]
async fn deadlines_are_honoured(database: TestDatabase) {
    let server = Server::start(database).await;
    contract::deadlines_are_honoured(server.grpc, "/auth.v1.KeyService/GetJwks", &[]).await;
}

#[on_both_backends]
async fn a_deadline_ends_a_call_that_takes_longer(database: TestDatabase) {
    // Hashing takes seconds, so a deadline of 50 ms expires long before it ends.
    let slow = settings(&["--hashing-memory-kib", "262144", "--hashing-passes", "10"]);
    let server = Server::start_with(database, &slow).await;
    let login = LoginRequest {
        identifier: "nobody".to_owned(),
        password: "whatever".to_owned(),
        ..LoginRequest::default()
    };
    let connection = RawConnection::open(server.grpc).await;
    let body = frame(&prost::Message::encode_to_vec(&login));
    let answer = connection
        .call("/auth.v1.AuthService/Login", &[("grpc-timeout", "50m")], body)
        .await;
    let (code, reason) = answer.expect("an answer").code_and_reason();
    assert_eq!((code, reason.as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
}
