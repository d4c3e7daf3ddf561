//! Logins with identity providers, and identities that are linked to accounts.

mod account;
mod addresses;
mod forgeries;
mod linking;
mod login;
mod providers;
mod upgrade;

use proto::auth::v1::{
    IdTokenProof, LinkIdentityRequest, LinkedIdentity, ListMyIdentitiesRequest, ListMyIdentitiesResponse,
    LoginWithIdTokenResponse, TokenPair, UnlinkIdentityRequest, User,
};
use serde_json::{Value, json};
use testing::{TestDatabase, rpc::with_token};
use tonic::Status;

use crate::support::{
    Server,
    provider::{Provider, server_with},
};

/// A server with one provider. `further` members replace those of its entry in the file.
async fn external(database: TestDatabase, further: Value) -> (Server, Provider) {
    let provider = Provider::start().await;
    let server = server_with(database, &[provider.entry(&further)], &[]).await;
    (server, provider)
}

/// Members of an entry whose addresses are believed.
fn trusted() -> Value {
    json!({"trusts_email": true})
}

/// Claims of a verified address.
fn verified(email: &str) -> Value {
    json!({"email": email, "email_verified": true})
}

/// Logs in as this user of the provider.
async fn login_as(server: &Server, provider: &Provider, subject: &str) -> LoginWithIdTokenResponse {
    let proof = server.proof(provider, subject, &json!({})).await;
    server.login_external(&proof).await.expect("logged in")
}

fn parts(answer: LoginWithIdTokenResponse) -> (User, TokenPair) {
    (answer.user.expect("a user"), answer.tokens.expect("tokens"))
}

async fn link(server: &Server, token: &str, proof: &IdTokenProof) -> Result<LinkedIdentity, Status> {
    let request = LinkIdentityRequest {
        id_token: Some(proof.clone()),
    };
    let linked = server.account().link_identity(with_token(request, token)).await?;
    Ok(linked.into_inner().identity.expect("an identity"))
}

async fn unlink(server: &Server, token: &str, identity_id: &str) -> Result<(), Status> {
    let request = UnlinkIdentityRequest {
        identity_id: identity_id.to_owned(),
    };
    server.account().unlink_identity(with_token(request, token)).await.map(drop)
}

async fn identities(server: &Server, token: &str) -> ListMyIdentitiesResponse {
    let listed = server
        .account()
        .list_my_identities(with_token(ListMyIdentitiesRequest {}, token))
        .await;
    listed.expect("a list").into_inner()
}
