use shared::{
    proto::auth::v1::GetJwksRequest,
    testing::{TestDatabase, on_both_backends},
    token::{Jwks, KeySource},
};

use crate::support::Server;

on_both_backends! {
    migrations = auth_service::MIGRATIONS;

    async fn the_key_set_is_the_same_by_rpc_and_by_http(database: TestDatabase) {
        let server = Server::start(database).await;
        let by_rpc = server.keys().get_jwks(GetJwksRequest {}).await.expect("keys").into_inner();
        let by_rpc = Jwks::try_from(by_rpc).expect("public keys");
        let url = format!("http://{}/.well-known/jwks.json", server.http).parse().expect("a URL");
        let by_http = KeySource::JwksUrl(url).load().await.expect("keys");
        assert_eq!(by_rpc, by_http);
        assert_eq!(by_rpc.keys().len(), 1);
    }

    async fn the_server_secret_can_be_replaced(database: TestDatabase) {
        let server = Server::start(database).await;
        let token = server.register("ann").await.tokens.expect("tokens").refresh_token;
        let before = server.keys().get_jwks(GetJwksRequest {}).await.expect("keys").into_inner();
        let new = secrecy::ExposeSecret::expose_secret(&auth_service::ServerSecrets::generate()).to_owned();
        let both = format!("{new}{}", server.secret);
        // With both, what was made before is good; afterwards the new one is enough for what is stored.
        let (_running, mut other) = server.replica_with(&both).await;
        let next = crate::support::rotate(&mut other, &token, "").await.expect("rotated").refresh_token;
        let (_running, mut other) = server.replica_with(&new).await;
        crate::support::rotate(&mut other, &next, "").await.expect("rotated with the new secret alone");
        let after = server.keys().get_jwks(GetJwksRequest {}).await.expect("keys").into_inner();
        assert_eq!(before, after);
    }

    async fn the_first_key_is_made_once(database: TestDatabase) {
        let server = Server::start(database).await;
        let before = server.keys().get_jwks(GetJwksRequest {}).await.expect("keys").into_inner();
        let token = server.register("ann").await.tokens.expect("tokens").refresh_token;
        // Another replica, or the same one after a restart, has the same keys and knows the same sessions.
        let (_running, mut other) = server.replica().await;
        crate::support::rotate(&mut other, &token, "").await.expect("rotated");
        let after = server.keys().get_jwks(GetJwksRequest {}).await.expect("keys").into_inner();
        assert_eq!(before, after);
    }
}
