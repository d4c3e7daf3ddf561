//! Mails about identities, and what a reset by mail does to identities of others.

use proto::auth::v1::{LinkIdentityRequest, UnlinkIdentityRequest};
use serde_json::{Value, json};
use testing::{TestDatabase, on_both_backends, rpc::with_token};
use tonic::Code;

use super::{MailServer, NEW, change_email, confirm, reset};
use crate::{
    support::{
        callers::{is, refusal},
        count,
        provider::{Provider, file},
    },
    users::calls::{me, refresh},
};

/// A server that sends mails and has one provider. `further` members replace those of its entry in
/// the file.
async fn start(database: TestDatabase, further: &Value, arguments: &[&str]) -> (MailServer, Provider) {
    let provider = Provider::start().await;
    let file = file(&[provider.entry(further)]);
    let path = ["--identity-providers-file", file.path().to_str().expect("UTF-8")];
    let mails = MailServer::start_with(database, &[&path, arguments].concat()).await;
    (mails, provider)
}

/// Links an identity to the bearer's account. Returns its id.
async fn link(mails: &MailServer, token: &str, provider: &Provider, subject: &str, claims: &Value) -> String {
    let request = LinkIdentityRequest {
        id_token: Some(mails.server.proof(provider, subject, claims).await),
    };
    let linked = mails.server.account().link_identity(with_token(request, token)).await;
    linked
        .expect("linked")
        .into_inner()
        .identity
        .expect("an identity")
        .identity_id
}

#[on_both_backends]
async fn users_are_told_when_an_identity_is_linked_or_unlinked(database: TestDatabase) {
    let (mails, provider) = start(database, &json!({}), &[]).await;
    let server = &mails.server;
    let tokens = server.register("ann").await.tokens.expect("tokens");
    let identity_id = link(&mails, &tokens.access_token, &provider, "alice", &json!({})).await;
    let told = mails.mails(1).await.remove(0);
    assert_eq!(told.recipient(), "ann@example.test");
    assert!(told.header("Subject").contains("Example ID"), "{}", told.text);
    assert!(told.text.contains("was linked to your account"), "{}", told.text);
    let request = UnlinkIdentityRequest { identity_id };
    let unlinked = server
        .account()
        .unlink_identity(with_token(request, &tokens.access_token))
        .await;
    unlinked.expect("unlinked");
    let told = mails.mails(2).await;
    assert!(
        told.iter()
            .any(|mail| mail.text.contains("was unlinked from your account")),
        "{told:?}"
    );
}

#[on_both_backends]
async fn a_reset_by_the_owner_of_the_address_ends_identities_that_others_have_linked(database: TestDatabase) {
    let (mails, provider) = start(database, &json!({}), &[]).await;
    let server = &mails.server;
    // A thief registers with the address of another person, and links an identity of their own.
    let thief = server.register("ann").await.tokens.expect("tokens");
    link(&mails, &thief.access_token, &provider, "mallory", &json!({})).await;
    mails.mails(1).await;
    let mail = mails.request("ann", 1).await;
    let owner = reset(&mut server.auth(), "ann", &mail.code(), NEW)
        .await
        .expect("reset");
    let (owner, tokens) = (owner.user.expect("a user").user_id, owner.tokens.expect("tokens"));
    let proof = server.proof(&provider, "mallory", &json!({})).await;
    let answer = server.login_external(&proof).await.expect("a user of their own");
    assert!(answer.is_new_user);
    assert_ne!(answer.user.expect("a user").user_id, owner);
    // An identity that the owner links stays, whatever else is reset later.
    link(&mails, &tokens.access_token, &provider, "alice", &json!({})).await;
    let earlier = mails.mails(4).await.len();
    let again = mails.request("ann", earlier).await;
    reset(&mut server.auth(), "ann", &again.code(), "third horse")
        .await
        .expect("reset");
    let proof = server.proof(&provider, "alice", &json!({})).await;
    let answer = server.login_external(&proof).await.expect("logged in");
    assert_eq!(answer.user.expect("a user").user_id, owner);
}

#[on_both_backends]
async fn an_undone_change_of_the_address_ends_identities_from_since_then(database: TestDatabase) {
    let (mails, provider) = start(database, &json!({}), &[]).await;
    let server = &mails.server;
    let token = mails.register_verified("ann").await;
    link(&mails, &token, &provider, "alice", &json!({})).await;
    server.clock.advance(std::time::Duration::from_secs(60));
    change_email(server, &token, "thief@example.test", crate::support::PASSWORD)
        .await
        .expect("asked");
    let code = mails.about_email("thief@example.test", 1).await.code();
    confirm(server, &token, &code).await.expect("changed");
    link(&mails, &token, &provider, "mallory", &json!({})).await;
    let notice = mails.with_link("ann@example.test", "revert-email", 1).await;
    let (_, values) = notice.link();
    let request = proto::auth::v1::RevertEmailChangeRequest {
        user_id: values["user_id"].clone(),
        code: values["code"].clone(),
    };
    server.account().revert_email_change(request).await.expect("undone");
    let db = server.database.db();
    assert_eq!(count(db, "user_identities WHERE subject = 'alice'").await, 1);
    assert_eq!(count(db, "user_identities WHERE subject = 'mallory'").await, 0);
}

#[on_both_backends]
async fn an_address_that_was_held_unverified_goes_to_the_user_whose_provider_has_verified_it(database: TestDatabase) {
    let trusted = json!({"trusts_email": true});
    let (mails, provider) = start(database, &trusted, &["--require-verified-email", "true"]).await;
    let server = &mails.server;
    server.register("ann").await;
    let claims = json!({"email": "ann@example.test", "email_verified": true});
    // For a day, the address is that of the user who registered first.
    let refused = server
        .login_external(&server.proof(&provider, "alice", &claims).await)
        .await;
    assert_eq!(refusal(refused), is(Code::AlreadyExists, "IDENTITY_EMAIL_IN_USE"));
    server.clock.advance(std::time::Duration::from_hours(25));
    server.clock.settle();
    let answer = server
        .login_external(&server.proof(&provider, "alice", &claims).await)
        .await;
    let answer = answer.expect("logged in");
    let user = answer.user.expect("a user");
    assert_eq!(user.email, "ann@example.test");
    let token = refresh(server, &answer.tokens.expect("tokens").refresh_token)
        .await
        .expect("refreshed");
    assert!(me(server, &token).await.expect("me").email_verify_time.is_some());
    assert_eq!(count(server.database.db(), "users WHERE email_is_taken").await, 1);
}
