//! Resets of second factors by administrators, for users who have lost them.

use proto::auth::v1::ResetSecondFactorsRequest;
use testing::{TestDatabase, on_both_backends, rpc::with_token};
use tonic::{Code, Status};

use super::{App, challenge, try_login};
use crate::{
    support::{
        Server,
        callers::{Caller, is, refusal, server_with_root},
        count,
    },
    users::calls::{me, users},
};

pub(crate) async fn reset(server: &Server, token: &str, user_id: &str) -> Result<(), Status> {
    let request = ResetSecondFactorsRequest {
        user_id: user_id.to_owned(),
    };
    let answer = users(server).reset_second_factors(with_token(request, token)).await;
    answer.map(drop)
}

#[on_both_backends]
async fn only_someone_with_authority_over_the_user_resets_the_factors(database: TestDatabase) {
    let (server, root) = server_with_root(database).await;
    let registered = server.register("ann").await;
    let token = registered.tokens.expect("tokens").access_token;
    App::added(&server, &token).await;
    let ann = registered.user.expect("a user").user_id;
    let helper = root.service(&server, "helper", &[], &["users:update"]).await;
    // Ann holds more than the helper.
    root.grant(&ann, "users:read").await.expect("granted");
    let refused = reset(&server, &helper.token, &ann).await;
    assert_eq!(refusal(refused), is(Code::PermissionDenied, "GRANT_EXCEEDS_OWN"));
    challenge(&server, "ann").await;
    root.revoke(&ann, "users:read").await.expect("revoked");
    let own = Caller::with_token(&server, &root.token, &root.user_id);
    let refused = reset(&server, &own.token, &own.user_id).await;
    assert_eq!(refusal(refused).1, "OWN_ACCOUNT");

    reset(&server, &helper.token, &ann).await.expect("reset");
    for table in ["totp_factors", "recovery_codes", "login_challenges"] {
        assert_eq!(count(server.database.db(), table).await, 0, "{table}");
    }
    assert!(try_login(&server, "ann").await.tokens.is_some());
    assert_eq!(
        refusal(me(&server, &token).await),
        is(Code::Unauthenticated, "TOKEN_STALE")
    );
    reset(&server, &helper.token, &ann).await.expect("nothing to do");
}
