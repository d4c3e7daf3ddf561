use std::time::Duration;

use shared::{
    proto::auth::v1::GetMeRequest,
    testing::{
        TestDatabase, on_both_backends,
        rpc::{reason, with_token},
        tokens::TokenMint,
    },
};

use crate::support::{START, Server};

on_both_backends! {
    migrations = auth_service::MIGRATIONS;

    async fn an_access_token_is_good_for_half_an_hour(database: TestDatabase) {
        let server = Server::start(database).await;
        let token = server.register("ann").await.tokens.expect("tokens").access_token;
        let me = async || server.account().get_me(with_token(GetMeRequest {}, &token)).await;
        // 30 minutes, and the leeway of 30 seconds.
        server.clock.advance(Duration::from_secs(1829));
        me().await.expect("still good");
        server.clock.advance(Duration::from_secs(1));
        assert_eq!(reason(&me().await.expect_err("over")), "TOKEN_EXPIRED");
    }

    async fn a_token_of_a_foreign_key_is_refused(database: TestDatabase) {
        let server = Server::start(database).await;
        let user = server.register("ann").await.user.expect("a user");
        let mint = TokenMint::random();
        let forged = mint.sign(&mint.claims_for(user.user_id.parse().expect("an id"), "ann", &["superuser"], START));
        let refused = server.account().get_me(with_token(GetMeRequest {}, &forged)).await.expect_err("forged");
        assert_eq!(reason(&refused), "TOKEN_INVALID");
    }
}
