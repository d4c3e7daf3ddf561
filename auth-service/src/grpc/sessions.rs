//! The RPCs about sessions: a user's own in `AccountService`, other people's in `UserService`.

use base::{
    ids::{SessionId, SessionKind, UserId},
    page::PageRequest,
    validate::{Fields, InvalidFields},
};
use proto::auth::v1::{
    ListMySessionsRequest, ListMySessionsResponse, ListUserSessionsRequest, ListUserSessionsResponse,
    RevokeMySessionRequest, RevokeMySessionResponse, RevokeUserSessionRequest, RevokeUserSessionResponse,
    RevokeUserTokensRequest, RevokeUserTokensResponse,
};
use tonic::{Request, Response, Status};

use super::{convert, request_context::request_context};
use crate::domain::{Error, Sessions};

pub(super) async fn list_my_sessions(
    sessions: &Sessions,
    request: Request<ListMySessionsRequest>,
) -> Result<Response<ListMySessionsResponse>, Status> {
    let context = request_context(&request);
    let user_id = context.user_id().ok_or(Error::UserNotFound)?;
    let request = request.into_inner();
    let mut fields = Fields::new();
    let list = format!("ListMySessions\n{user_id}");
    let page = PageRequest::parse(&mut fields, request.page_size, &request.page_token, &list);
    let page = fields.finish(|| page)?;
    let (listed, next_page_token) = sessions.list(user_id, &page, false, &list).await?;
    Ok(Response::new(ListMySessionsResponse {
        sessions: listed
            .into_iter()
            .map(|session| convert::session(session, context.session_id()))
            .collect(),
        next_page_token,
    }))
}

pub(super) async fn revoke_my_session(
    sessions: &Sessions,
    request: Request<RevokeMySessionRequest>,
) -> Result<Response<RevokeMySessionResponse>, Status> {
    let context = request_context(&request);
    let mut fields = Fields::new();
    let id = fields.id("session_id", &request.into_inner().session_id);
    let id = fields.finish(|| id)?;
    sessions.revoke_own(&context, id).await?;
    Ok(Response::new(RevokeMySessionResponse {}))
}

pub(super) async fn list_user_sessions(
    sessions: &Sessions,
    request: Request<ListUserSessionsRequest>,
) -> Result<Response<ListUserSessionsResponse>, Status> {
    let context = request_context(&request);
    let request = request.into_inner();
    let (user_id, page, list) = listing(&request)?;
    let (listed, next_page_token) = sessions.list_of_user(user_id, &page, request.show_ended, &list).await?;
    Ok(Response::new(ListUserSessionsResponse {
        sessions: listed
            .into_iter()
            .map(|session| convert::session(session, context.session_id()))
            .collect(),
        next_page_token,
    }))
}

pub(super) async fn revoke_user_session(
    sessions: &Sessions,
    request: Request<RevokeUserSessionRequest>,
) -> Result<Response<RevokeUserSessionResponse>, Status> {
    let context = request_context(&request);
    let (user_id, id) = session_of(&request.into_inner())?;
    sessions.revoke_of_user(&context, user_id, id).await?;
    Ok(Response::new(RevokeUserSessionResponse {}))
}

pub(super) async fn revoke_user_tokens(
    sessions: &Sessions,
    request: Request<RevokeUserTokensRequest>,
) -> Result<Response<RevokeUserTokensResponse>, Status> {
    let context = request_context(&request);
    let mut fields = Fields::new();
    let user_id = fields.id("user_id", &request.into_inner().user_id);
    let user_id = fields.finish(|| user_id)?;
    let ended = sessions.revoke_all_of_user(&context, user_id).await?;
    Ok(Response::new(RevokeUserTokensResponse {
        session_count: i32::try_from(ended).unwrap_or(i32::MAX),
    }))
}

/// Returns the user, the page, and the query that page tokens are bound to.
fn listing(request: &ListUserSessionsRequest) -> Result<(UserId, PageRequest<SessionKind>, String), InvalidFields> {
    let mut fields = Fields::new();
    let user_id: Option<UserId> = fields.id("user_id", &request.user_id);
    let list = format!(
        "ListUserSessions\n{}\n{}",
        request.user_id.to_lowercase(),
        request.show_ended
    );
    let page = PageRequest::parse(&mut fields, request.page_size, &request.page_token, &list);
    fields.finish(|| Some((user_id?, page?, list)))
}

fn session_of(request: &RevokeUserSessionRequest) -> Result<(UserId, SessionId), InvalidFields> {
    let mut fields = Fields::new();
    let user_id = fields.id("user_id", &request.user_id);
    let id = fields.id("session_id", &request.session_id);
    fields.finish(|| Some((user_id?, id?)))
}
