//! Rotations that are in flight while their session is ended. The tokens that they return are
//! worthless once the end is acknowledged.

use std::{sync::Arc, time::Duration};

use base::running::Running;
use db::Backend;
use proto::auth::v1::{
    GetMeRequest, ListMySessionsRequest, LogoutRequest, RefreshAccessTokenRequest, RevokeAllTokensRequest,
    RevokeMySessionRequest, RevokeTokenRequest, RevokeUserSessionRequest, RevokeUserTokensRequest, TokenPair,
    user_service_client::UserServiceClient,
};
use testing::{
    TestDatabase, on_both_backends,
    rpc::{channel, reason, with_token},
};
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::support::{Server, rotate};

/// Ways to end a session.
#[derive(Clone, Copy, Debug)]
enum End {
    LogoutByRefreshToken,
    LogoutByAccessToken,
    RevokeToken,
    RevokeMySession,
    RevokeAllTokens,
    RevokeUserSession,
    RevokeUserTokens,
}

const ENDS: [End; 7] = [
    End::LogoutByRefreshToken,
    End::LogoutByAccessToken,
    End::RevokeToken,
    End::RevokeMySession,
    End::RevokeAllTokens,
    End::RevokeUserSession,
    End::RevokeUserTokens,
];

/// A user, one of their sessions, another session from which the first one is ended, and the access
/// token of an administrator.
struct Target<'a> {
    user_id: &'a str,
    session_id: &'a str,
    pair: &'a TokenPair,
    elsewhere: &'a TokenPair,
    admin: &'a str,
}

impl End {
    async fn call(self, server: &Server, on: &Target<'_>) -> Result<(), Status> {
        let mut users = UserServiceClient::new(channel(server.grpc));
        let (user_id, session_id) = (on.user_id.to_owned(), on.session_id.to_owned());
        match self {
            Self::LogoutByRefreshToken => {
                let refresh_token = on.pair.refresh_token.clone();
                server.auth().logout(LogoutRequest { refresh_token }).await.map(drop)
            }
            Self::LogoutByAccessToken => {
                let request = with_token(LogoutRequest::default(), &on.pair.access_token);
                server.auth().logout(request).await.map(drop)
            }
            Self::RevokeToken => {
                let token = on.pair.refresh_token.clone();
                let request = RevokeTokenRequest {
                    token,
                    ..RevokeTokenRequest::default()
                };
                server.auth().revoke_token(request).await.map(drop)
            }
            Self::RevokeMySession => {
                let request = with_token(RevokeMySessionRequest { session_id }, &on.elsewhere.access_token);
                server.account().revoke_my_session(request).await.map(drop)
            }
            Self::RevokeAllTokens => {
                let request = with_token(RevokeAllTokensRequest {}, &on.elsewhere.access_token);
                server.auth().revoke_all_tokens(request).await.map(drop)
            }
            Self::RevokeUserSession => {
                let request = RevokeUserSessionRequest { user_id, session_id };
                users.revoke_user_session(with_token(request, on.admin)).await.map(drop)
            }
            Self::RevokeUserTokens => {
                let request = RevokeUserTokensRequest { user_id };
                users.revoke_user_tokens(with_token(request, on.admin)).await.map(drop)
            }
        }
    }
}

#[on_both_backends]
async fn a_rotation_in_flight_does_not_outlive_the_end_of_its_session(database: TestDatabase) {
    let server = Server::start(database).await;
    let (_running, replica) = match server.database.db().backend() {
        Backend::Postgres => server.replica().await,
        // On SQLite a deployment has only one process. It acknowledges a change once it enforces
        // the change itself, so this server takes the place of the replica.
        Backend::Sqlite => (Running::new(CancellationToken::new(), Duration::ZERO), server.auth()),
    };
    let admin = server.superuser().await;
    for round in 0..3 {
        for end in ENDS {
            let name = format!("{end:?}{round}");
            let registered = server.register(&name).await;
            let user_id = registered.user.expect("a user").user_id;
            let elsewhere = registered.tokens.expect("tokens");
            let pair = server.login(&name).await;
            let sessions = with_token(ListMySessionsRequest::default(), &pair.access_token);
            let sessions = server
                .account()
                .list_my_sessions(sessions)
                .await
                .expect("listed")
                .into_inner()
                .sessions;
            let session_id = sessions
                .into_iter()
                .find(|session| session.is_current)
                .expect("the current one")
                .session_id;

            let barrier = Arc::new(Barrier::new(2));
            let in_flight = {
                let (mut client, barrier, token) = (replica.clone(), Arc::clone(&barrier), pair.refresh_token.clone());
                tokio::spawn(async move {
                    barrier.wait().await;
                    rotate(&mut client, &token, "").await
                })
            };
            barrier.wait().await;
            let target = Target {
                user_id: &user_id,
                session_id: &session_id,
                pair: &pair,
                elsewhere: &elsewhere,
                admin: &admin,
            };
            end.call(&server, &target).await.expect("ended");
            let got = in_flight.await.expect("joined");
            for tokens in got.into_iter().chain([pair]) {
                let request = RefreshAccessTokenRequest {
                    refresh_token: tokens.refresh_token.clone(),
                    ..RefreshAccessTokenRequest::default()
                };
                let refused = server.auth().refresh_access_token(request).await.expect_err("ended");
                assert_eq!(reason(&refused), "SESSION_ENDED", "{end:?}");
                let me = server
                    .account()
                    .get_me(with_token(GetMeRequest {}, &tokens.access_token))
                    .await;
                assert!(
                    ["TOKEN_REVOKED", "TOKEN_STALE"].contains(&reason(&me.expect_err("refused")).as_str()),
                    "{end:?}"
                );
            }
        }
    }
}
