//! Error messages that tell the caller what to do next.

use proto::auth::v1::{
    DeleteActionRequest, GetActionRequest, GetMeRequest, GetResourceRequest, Resource, RevokeAllTokensRequest,
    UpdateResourceRequest,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{reason, with_token},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{Server, callers::server_with_root};

/// Asserts that the error names this object, both in its message and in its details.
fn assert_names(status: &Status, kind: &str, name: &str) {
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), format!("there is no {kind} {name}"));
    let info = status.get_details_resource_info().expect("a ResourceInfo");
    assert_eq!((info.resource_type.as_str(), info.resource_name.as_str()), (kind, name));
}

#[on_both_backends]
async fn a_refresh_token_sent_as_bearer_is_explained(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    let refused = server
        .account()
        .get_me(with_token(GetMeRequest {}, &pair.refresh_token))
        .await
        .expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "TOKEN_INVALID")
    );
    assert_eq!(
        refused.message(),
        "this is a refresh token; send the access token that was issued with it"
    );
}

#[on_both_backends]
async fn the_stale_token_error_says_to_refresh_or_log_in(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.register("ann").await.tokens.expect("tokens");
    server
        .auth()
        .revoke_all_tokens(with_token(RevokeAllTokensRequest {}, &pair.access_token))
        .await
        .expect("logged out everywhere");
    let refused = server
        .account()
        .get_me(with_token(GetMeRequest {}, &pair.access_token))
        .await
        .expect_err("refused");
    assert_eq!(reason(&refused), "TOKEN_STALE");
    assert!(
        refused
            .message()
            .ends_with("refresh it, or log in again if that is refused, too"),
        "{refused}"
    );
    // Refreshing does not help here, so the error of the refresh has to say what does.
    let refused = server.rotate(&pair.refresh_token, "").await.expect_err("refused");
    assert_eq!(
        (reason(&refused).as_str(), refused.message()),
        ("SESSION_ENDED", "the session has ended; log in again")
    );
}

#[on_both_backends]
async fn not_found_errors_name_the_resource(database: TestDatabase) {
    let (_server, root) = server_with_root(database).await;
    let missing = || "invoices".to_owned();
    let get = root.get_resource(GetResourceRequest { code_name: missing() });
    assert_names(&get.await.expect_err("refused"), "resource", "invoices");
    let update = root.update_resource(UpdateResourceRequest {
        resource: Some(Resource {
            code_name: missing(),
            name: "Bills".to_owned(),
            ..Resource::default()
        }),
        update_mask: None,
    });
    assert_names(&update.await.expect_err("refused"), "resource", "invoices");
    let get = root.get_action(GetActionRequest { code_name: missing() });
    assert_names(&get.await.expect_err("refused"), "action", "invoices");
    let delete = root.delete_action(DeleteActionRequest {
        code_name: missing(),
        force: false,
    });
    assert_names(&delete.await.expect_err("refused"), "action", "invoices");
}

#[on_both_backends]
async fn the_last_admin_error_names_the_role(database: TestDatabase) {
    let (_server, root) = server_with_root(database).await;
    let refused = root.unassign(&root.user_id, "superuser").await.expect_err("refused");
    assert_eq!(
        (reason(&refused).as_str(), refused.message()),
        (
            "LAST_ADMIN",
            "this is the last active administrator with the role superuser; give the role to another user first"
        )
    );
}
