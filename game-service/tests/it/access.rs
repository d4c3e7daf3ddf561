//! Logouts, deactivations, role changes and key changes take effect as soon as auth-service reports
//! them. Also the behaviour while the feed is silent.

use std::time::Duration;

use access::{policy::Policies, token::Claims, view::SilenceRule};
use proto::game::v1::{FILE_DESCRIPTOR_SET, Mark, Opponent};
use testing::{
    TestDatabase, contract, feed::FakeAuth, on_both_backends, program::not_serving, rpc::reason, tokens::TokenMint,
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::support::{Player, START, Server};

/// A player with a token that the test writes itself.
struct Caller {
    player: Player,
    claims: Claims,
}

impl Caller {
    fn of(server: &Server) -> Self {
        let mut player = server.player("ann");
        let claims = server.mint.claims_for(player.id, "ann", &["player"], START);
        player.token = server.mint.sign(&claims);
        Self { player, claims }
    }

    async fn read(&self) -> Result<(), Status> {
        self.player.open_games(0, "").await.map(drop)
    }

    async fn write(&self) -> Result<(), Status> {
        self.player.create(Opponent::Computer, Mark::X).await.map(drop)
    }
}

/// Creates a fake auth-service that publishes the mint's key and the roles as declared.
pub(crate) fn auth(mint: &TokenMint) -> FakeAuth {
    let auth = FakeAuth::new();
    auth.set_time(START);
    publish(&auth, mint);
    auth
}

pub(crate) fn publish(auth: &FakeAuth, mint: &TokenMint) {
    auth.set_keys(&mint.jwks());
    let policies = Policies::from_descriptor_set(FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let mut roles = std::collections::BTreeMap::<&str, Vec<String>>::new();
    for (role, permission) in policies.default_grants() {
        roles.entry(role).or_default().push(permission.to_string());
    }
    for (role, permissions) in roles {
        let permissions: Vec<&str> = permissions.iter().map(String::as_str).collect();
        auth.set_role(role, &permissions);
    }
}

pub(crate) async fn following(database: TestDatabase) -> (FakeAuth, Server) {
    let mint = TokenMint::random();
    let auth = auth(&mint);
    let server = Server::following(database, &auth, mint, SilenceRule::default()).await;
    contract::serving(server.grpc).await;
    (auth, server)
}

/// Repeats the call until it has this result. News takes a few milliseconds to arrive, and nothing
/// signals its arrival.
pub(crate) async fn becomes(code: Code, why: &str, call: impl AsyncFn() -> Result<(), Status>) {
    let until = async {
        loop {
            let answer = call().await;
            let got = answer
                .as_ref()
                .map_or_else(|status| (status.code(), reason(status)), |()| (Code::Ok, String::new()));
            if got == (code, why.to_owned()) {
                return;
            }
            // Not more often: each call may create a game, of which a player may have 100. The feed
            // counts as silent only after a second or two.
            sleep(Duration::from_millis(50)).await;
        }
    };
    let came = timeout(Duration::from_secs(60), until).await;
    came.unwrap_or_else(|_| panic!("never {code:?} {why}"));
}

#[on_both_backends]
async fn a_logged_out_session_is_refused_and_another_is_not(database: TestDatabase) {
    let (auth, server) = following(database).await;
    let (ann, bob) = (Caller::of(&server), Caller::of(&server));
    ann.read().await.expect("good");
    auth.revoke_session(ann.claims.sid.expect("a session"));
    becomes(Code::Unauthenticated, "TOKEN_REVOKED", async || ann.read().await).await;
    assert_eq!(reason(&ann.write().await.expect_err("refused")), "TOKEN_REVOKED");
    bob.write().await.expect("good");
}

#[on_both_backends]
async fn a_deactivated_user_is_refused(database: TestDatabase) {
    let (auth, server) = following(database).await;
    let mut ann = Caller::of(&server);
    ann.write().await.expect("good");
    auth.revoke_user(ann.player.id, 1);
    becomes(Code::Unauthenticated, "TOKEN_STALE", async || ann.write().await).await;
    // The user is activated again and logs in anew.
    ann.claims.ver = 1;
    ann.player.token = server.mint.sign(&ann.claims);
    ann.write().await.expect("good");
}

#[on_both_backends]
async fn issued_tokens_lose_a_permission_that_their_role_loses(database: TestDatabase) {
    let (auth, server) = following(database).await;
    let ann = Caller::of(&server);
    ann.write().await.expect("allowed");
    auth.set_role("player", &["games:read"]);
    becomes(Code::PermissionDenied, "PERMISSION_DENIED", async || ann.write().await).await;
    ann.read().await.expect("still allowed");
    auth.set_role("player", &["games:read", "games:create"]);
    becomes(Code::Ok, "", async || ann.write().await).await;
}

#[on_both_backends]
async fn tokens_of_a_withdrawn_key_are_refused(database: TestDatabase) {
    let (auth, server) = following(database).await;
    let ann = Caller::of(&server);
    ann.read().await.expect("good");
    let other = TokenMint::random();
    auth.set_keys(&other.jwks());
    becomes(Code::Unauthenticated, "TOKEN_INVALID", async || ann.read().await).await;
    let mut with_new = Caller::of(&server);
    with_new.player.token = other.sign(&with_new.claims);
    with_new.read().await.expect("good");
}

#[on_both_backends]
async fn a_restart_forgets_nothing(database: TestDatabase) {
    let (auth, server) = following(database).await;
    let (ann, bob) = (Caller::of(&server), Caller::of(&server));
    auth.revoke_user(ann.player.id, 1);
    auth.revoke_session(bob.claims.sid.expect("a session"));
    becomes(Code::Unauthenticated, "TOKEN_REVOKED", async || bob.read().await).await;
    let (database, mint) = server.stop().await;

    // The service restarts while auth-service is down. The keys alone must not be enough to let
    // anyone in.
    auth.set_down(true);
    let server = Server::following(database, &auth, mint, SilenceRule::default()).await;
    for before in [&ann, &bob] {
        let mut caller = Caller::of(&server);
        caller.player.token.clone_from(&before.player.token);
        let refused = caller.read().await.expect_err("it knows nothing yet");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unavailable, "STARTING")
        );
    }
    not_serving(server.grpc).await;
    auth.set_down(false);
    contract::serving(server.grpc).await;
    for (before, why) in [(&ann, "TOKEN_STALE"), (&bob, "TOKEN_REVOKED")] {
        let mut caller = Caller::of(&server);
        caller.player.token.clone_from(&before.player.token);
        let refused = caller.read().await.expect_err("refused");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unauthenticated, why)
        );
    }
    Caller::of(&server).write().await.expect("others are let in");
}

#[on_both_backends]
async fn while_the_feed_is_silent_reads_are_served_and_writes_refused(database: TestDatabase) {
    let mint = TokenMint::random();
    let auth = auth(&mint);
    let rule = SilenceRule {
        after: Duration::from_secs(1),
        ..SilenceRule::default()
    };
    let server = Server::following(database, &auth, mint, rule).await;
    contract::serving(server.grpc).await;
    let ann = Caller::of(&server);
    ann.write().await.expect("good");
    auth.set_silent(true);
    becomes(Code::Unavailable, "ACCESS_FEED_SILENT", async || ann.write().await).await;
    ann.read().await.expect("reads go on");
    contract::serving(server.grpc).await;
    // An invalid token is reported as such, silent feed or not.
    let mut nobody = Caller::of(&server);
    "none".clone_into(&mut nobody.player.token);
    assert_eq!(nobody.write().await.expect_err("refused").code(), Code::Unauthenticated);
    auth.set_silent(false);
    becomes(Code::Ok, "", async || ann.write().await).await;
}

#[on_both_backends]
async fn each_role_may_do_what_the_protos_say(database: TestDatabase) {
    let (_auth, server) = following(database).await;
    contract::roles_hold_what_the_protos_say(server.grpc, FILE_DESCRIPTOR_SET, &server.mint, START).await;
}

#[on_both_backends]
async fn without_the_feed_each_role_may_do_what_the_protos_say(database: TestDatabase) {
    let server = Server::start(database).await;
    contract::roles_hold_what_the_protos_say(server.grpc, FILE_DESCRIPTOR_SET, &server.mint, START).await;
}

#[on_both_backends]
async fn a_following_server_keeps_the_contract(database: TestDatabase) {
    let (_auth, server) = following(database).await;
    contract::every_rpc_needs_a_token(server.grpc, FILE_DESCRIPTOR_SET).await;
    contract::invalid_tokens_are_refused(server.grpc, "/game.v1.GameService/JoinGame", &server.mint, START).await;
}
