//! A full disk: writes that do not fit are refused as a whole, reads go on, and writes succeed
//! again once there is room.

use db::Backend;
use proto::auth::v1::{GetMeRequest, IntrospectTokenRequest};
use testing::{
    TestDatabase, block_on,
    rpc::{reason, with_token},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{PASSWORD, Server, credentials, registration};

fn assert_unavailable(status: &Status) {
    assert_eq!(
        (status.code(), reason(status).as_str()),
        (Code::Unavailable, "DATABASE_UNAVAILABLE"),
        "{status:?}"
    );
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
}

#[test]
fn nothing_is_half_written_on_a_full_disk() {
    block_on(async {
        let database = TestDatabase::create(Backend::Sqlite, &auth_service::MIGRATIONS).await;
        let server = Server::start(database).await;
        let ann = server.register("ann").await.tokens.expect("tokens");
        server.database.fill_up().await;

        // The existing database pages still have some room.
        let mut registered = Vec::new();
        let (refused, login) = loop {
            let login = format!("user{}", registered.len());
            match server.auth().register(registration(&login)).await {
                Ok(_) => registered.push(login),
                Err(status) => break (status, login),
            }
            assert!(registered.len() < 1000, "the disk is never full");
        };
        assert_unavailable(&refused);

        // Reads go on, and tokens are still verified.
        let me = server
            .account()
            .get_me(with_token(GetMeRequest {}, &ann.access_token))
            .await;
        assert_eq!(me.expect("read").into_inner().user.expect("a user").login, "ann");
        let forbidden = IntrospectTokenRequest {
            token: ann.access_token.clone(),
        };
        let forbidden = server
            .auth()
            .introspect_token(with_token(forbidden, &ann.access_token))
            .await;
        assert_eq!(forbidden.expect_err("no right").code(), Code::PermissionDenied);
        // Log in until the disk is so full that not even a session can be written.
        let full = loop {
            if let Err(status) = server.auth().login(credentials("ann", PASSWORD)).await {
                break status;
            }
        };
        assert_unavailable(&full);

        server.database.make_room().await;
        // The refused registration left nothing behind, so the same login can be registered now.
        server.auth().register(registration(&login)).await.expect("registered");
        server.rotate(&ann.refresh_token, "").await.expect("rotated");
        for login in registered {
            server
                .auth()
                .login(credentials(&login, PASSWORD))
                .await
                .expect("what was acknowledged is there");
        }
    });
}
