use base::ids::UserId;
use proto::game::v1::FILE_DESCRIPTOR_SET;
use testing::{
    TestDatabase, contract, invalid, on_both_backends,
    rpc::{RawConnection, frame},
};
use tonic::Code;

use crate::support::{START, Server};

const JOIN: &str = "/game.v1.GameService/JoinGame";

#[on_both_backends]
async fn every_rpc_needs_a_token(database: TestDatabase) {
    let server = Server::start(database).await;
    contract::every_rpc_needs_a_token(server.grpc, FILE_DESCRIPTOR_SET).await;
}

#[on_both_backends]
async fn invalid_tokens_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    contract::invalid_tokens_are_refused(server.grpc, JOIN, &server.mint, START).await;
}

#[on_both_backends]
async fn malformed_requests_are_refused(database: TestDatabase) {
    let server = Server::start(database).await;
    let value = format!("Bearer {}", server.player("ann").token);
    contract::malformed_requests_are_refused(server.grpc, JOIN, &[("authorization", &value)]).await;
}

#[on_both_backends]
async fn overlong_texts_are_refused_before_they_are_processed(database: TestDatabase) {
    let server = Server::start(database).await;
    let token = server.player("ann").token;
    invalid::long_texts_are_refused(server.grpc, FILE_DESCRIPTOR_SET, &token, &[]).await;
}

#[on_both_backends]
async fn the_limit_on_invalid_calls_does_not_affect_other_users(database: TestDatabase) {
    let server = Server::start(database).await;
    let value = format!("Bearer {}", server.player("ann").token);
    let connection = RawConnection::open(server.grpc).await;
    let mut answered = 0;
    loop {
        let answer = connection
            .call(JOIN, &[("authorization", &value)], frame(&[0xff]))
            .await
            .expect("an answer");
        match answer.code_and_reason() {
            (Code::InvalidArgument, _) => answered += 1,
            refused => {
                assert_eq!(refused, (Code::ResourceExhausted, "TOO_MANY_INVALID_CALLS".to_owned()));
                break;
            }
        }
        // The limit grows by five calls per second.
        assert!(answered < 3000, "there is no limit");
    }
    assert!(answered >= 300, "{answered}");
    server.player("bob").open_games(0, "").await.expect("served");
}

#[on_both_backends]
async fn deadlines_are_honoured(database: TestDatabase) {
    let server = Server::start(database).await;
    let value = format!("Bearer {}", server.player("ann").token);
    contract::deadlines_are_honoured(server.grpc, JOIN, &[("authorization", &value)]).await;
}

#[on_both_backends]
async fn health_and_reflection_are_served(database: TestDatabase) {
    let server = Server::start(database).await;
    contract::serving(server.grpc).await;
    contract::health_and_reflection_are_served(server.grpc, FILE_DESCRIPTOR_SET).await;
}

#[on_both_backends]
async fn a_role_without_the_permission_is_refused_before_the_request_is_read(database: TestDatabase) {
    let server = Server::start(database).await;
    let connection = RawConnection::open(server.grpc).await;
    for (roles, allowed) in [
        ([].as_slice(), false),
        (&["service"], false),
        (&["player"], true),
        (&["superuser"], true),
    ] {
        let claims = server.mint.claims_for(UserId::generate(), "ann", roles, START);
        let value = format!("Bearer {}", server.mint.sign(&claims));
        let answer = connection
            .call(JOIN, &[("authorization", &value)], frame(&[]))
            .await
            .expect("an answer");
        let expected = if allowed {
            (Code::InvalidArgument, "FIELDS_INVALID".to_owned())
        } else {
            (Code::PermissionDenied, "PERMISSION_DENIED".to_owned())
        };
        assert_eq!(answer.code_and_reason(), expected, "{roles:?}");
    }
    // A permission that is granted to the user directly counts as well.
    let mut claims = server.mint.claims_for(UserId::generate(), "ann", &[], START);
    for (permission, allowed) in [
        ("games:update", true),
        ("games:all", true),
        ("games:read", false),
        ("history:update", false),
    ] {
        claims.permissions = vec![permission.to_owned()];
        let value = format!("Bearer {}", server.mint.sign(&claims));
        let answer = connection
            .call(JOIN, &[("authorization", &value)], frame(&[]))
            .await
            .expect("an answer");
        assert_eq!(answer.status.code() != Code::PermissionDenied, allowed, "{permission}");
    }
}

#[on_both_backends]
async fn stopping_drains_and_ends(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = server.player("ann");
    ann.open_games(0, "").await.expect("served");
    server.running.stop().await.expect("ended");
    // Uses a new connection: the outcome of a call on a closing one depends on the client.
    let anew = ann.calling(server.grpc);
    assert_eq!(
        anew.open_games(0, "").await.expect_err("gone").code(),
        Code::Unavailable
    );
}
