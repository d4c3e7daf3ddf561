//! Acknowledgements of changes, which wait until the process itself has applied the change.

use std::future::{Ready, ready};

use futures_util::future::BoxFuture;
use proto::auth::v1::{ListMySessionsRequest, LogoutRequest, RevokeMySessionRequest, RevokeTokenRequest, TokenPair};
use testing::{TestDatabase, on_both_backends, rpc::with_token};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tonic::Status;

use crate::{
    support::{Server, callers::server_with_root},
    users::calls::deactivate,
};

type Call<'a> = &'a dyn Fn() -> BoxFuture<'a, Result<(), Status>>;

/// Returns the number up to which the last commit has waited for the feed, if any has.
fn last(waited: &mut UnboundedReceiver<i64>) -> Option<i64> {
    std::iter::from_fn(|| waited.try_recv().ok()).last()
}

async fn revoke_token(server: &Server, token: &str) -> Result<(), Status> {
    let request = RevokeTokenRequest {
        token: token.to_owned(),
        ..RevokeTokenRequest::default()
    };
    server.auth().revoke_token(request).await.map(drop)
}

#[on_both_backends]
async fn a_change_that_is_already_made_is_acknowledged_like_the_first_time(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let ann = server.register("ann").await.user.expect("a user").user_id;
    root.make_role("clerk", &["users:read"]).await;
    root.assign(&ann, "clerk").await.expect("assigned");
    root.grant(&ann, "audit:read").await.expect("granted");
    let sessions: [TokenPair; 4] = [
        server.login("ann").await,
        server.login("ann").await,
        server.login("ann").await,
        server.login("ann").await,
    ];
    let [one, two, three, stays] = &sessions;
    let listed = ListMySessionsRequest::default();
    let listed = server
        .account()
        .list_my_sessions(with_token(listed, &three.access_token))
        .await;
    let listed = listed.expect("listed").into_inner().sessions;
    let third = listed.into_iter().find(|session| session.is_current);
    let third = third.expect("the session of the token").session_id;

    let (numbers, mut waited) = unbounded_channel();
    let wait = move |number| -> Ready<()> {
        let _ = numbers.send(number);
        ready(())
    };
    let _guard = server.database.db().settle_commits("access_feed", wait);
    let (server, root, ann, third) = (&server, &root, &ann, &third);
    let calls: [(&str, Call<'_>); 7] = [
        ("Logout", &|| {
            Box::pin(async {
                let request = LogoutRequest {
                    refresh_token: one.refresh_token.clone(),
                };
                server.auth().logout(request).await.map(drop)
            })
        }),
        ("RevokeToken", &|| Box::pin(revoke_token(server, &two.access_token))),
        ("RevokeMySession", &|| {
            Box::pin(async {
                let request = RevokeMySessionRequest {
                    session_id: third.clone(),
                };
                let request = with_token(request, &stays.access_token);
                server.account().revoke_my_session(request).await.map(drop)
            })
        }),
        ("UnassignRole", &|| {
            Box::pin(async { root.unassign(ann, "clerk").await.map(drop) })
        }),
        ("RevokePermission", &|| {
            Box::pin(async { root.revoke(ann, "audit:read").await.map(drop) })
        }),
        ("SetRolePermissions", &|| {
            Box::pin(async { root.set("clerk", &["audit:read"]).await.map(drop) })
        }),
        ("DeactivateUser", &|| {
            Box::pin(async { deactivate(server, &root.token, ann).await.map(drop) })
        }),
    ];
    for (name, call) in calls {
        call().await.unwrap_or_else(|status| panic!("{name}: {status}"));
        let first = last(&mut waited);
        call().await.unwrap_or_else(|status| panic!("{name} again: {status}"));
        let again = last(&mut waited);
        assert!(first.is_some() && again == first, "{name}: {first:?}, {again:?}");
    }
}
