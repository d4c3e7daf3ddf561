//! Converts domain values to messages. Secrets are exposed here, on their way to the client that
//! they belong to.

use std::time::Duration;

use ::proto::auth::v1 as proto;
use base::ids::SessionId;
use secrecy::ExposeSecret as _;

use crate::{
    domain::{AccessToken, Introspection, TokenPair},
    model::{Session, User},
};

const TOKEN_TYPE: &str = "Bearer";

pub(super) fn user(user: User) -> proto::User {
    proto::User {
        user_id: user.id.to_string(),
        email: user.own_email().to_owned(),
        login: user.login,
        first_name: user.first_name,
        last_name: user.last_name,
        middle_name: user.middle_name,
        create_time: Some(user.create_time.into()),
        update_time: Some(user.update_time.into()),
        last_login_time: user.last_login_time.map(Into::into),
        is_active: user.is_active,
        must_change_password: user.must_change_password,
        force_logout_time: user.force_logout_time.map(Into::into),
        locale: user.locale,
        email_verify_time: user.email_verify_time.map(Into::into),
        invite_time: user.invite_time.map(Into::into),
        is_guest: user.is_guest,
    }
}

pub(super) fn token_pair(pair: &TokenPair) -> proto::TokenPair {
    proto::TokenPair {
        token_type: TOKEN_TYPE.to_owned(),
        access_token: pair.access.token.expose_secret().to_owned(),
        access_expires_in: seconds(pair.access.expires_in),
        refresh_token: pair.refresh_token.expose_secret().to_owned(),
        refresh_expires_in: seconds(pair.refresh_expires_in),
    }
}

pub(super) fn access_token(access: &AccessToken) -> proto::RefreshAccessTokenResponse {
    proto::RefreshAccessTokenResponse {
        token_type: TOKEN_TYPE.to_owned(),
        access_token: access.token.expose_secret().to_owned(),
        access_expires_in: seconds(access.expires_in),
    }
}

pub(super) fn reauthenticated(access: &AccessToken) -> proto::ReauthenticateResponse {
    proto::ReauthenticateResponse {
        token_type: TOKEN_TYPE.to_owned(),
        access_token: access.token.expose_secret().to_owned(),
        access_expires_in: seconds(access.expires_in),
    }
}

pub(super) fn service_token(access: &AccessToken) -> proto::IssueServiceTokenResponse {
    proto::IssueServiceTokenResponse {
        token_type: TOKEN_TYPE.to_owned(),
        access_token: access.token.expose_secret().to_owned(),
        access_expires_in: seconds(access.expires_in),
    }
}

/// Converts a session. `current` is the session of the caller.
pub(super) fn session(session: Session, current: Option<SessionId>) -> proto::Session {
    proto::Session {
        session_id: session.id.to_string(),
        user_id: session.user_id.to_string(),
        ip_address: session.ip_address,
        user_agent: session.user_agent,
        create_time: Some(session.create_time.into()),
        last_use_time: Some(session.last_use_time.into()),
        expire_time: Some(session.expire_time.into()),
        absolute_expire_time: Some(session.absolute_expire_time.into()),
        is_current: current == Some(session.id),
        end_time: session.ended.map(|ended| ended.time.into()),
        end_reason: session
            .ended
            .map(|ended| ended.reason.as_str().to_owned())
            .unwrap_or_default(),
        auth_time: Some(session.authentication.time.into()),
        auth_methods: session.authentication.methods.to_vec(),
        acr: session.authentication.acr.to_string(),
    }
}

pub(super) fn introspection(found: Introspection) -> proto::IntrospectTokenResponse {
    let token_type = if found.issue_time.is_some() {
        "access_token"
    } else {
        "refresh_token"
    };
    let authentication = found.authentication.as_ref();
    proto::IntrospectTokenResponse {
        active: true,
        token_type: token_type.to_owned(),
        user_id: found.user_id.to_string(),
        login: found.login,
        client_id: found.client_id,
        session_id: found.session_id.map(|id| id.to_string()).unwrap_or_default(),
        roles: found.roles,
        permissions: found.permissions,
        issue_time: found.issue_time.map(Into::into),
        expire_time: Some(found.expire_time.into()),
        audiences: found.audiences,
        auth_time: authentication.map(|it| it.time.into()),
        auth_methods: authentication.map(|it| it.methods.to_vec()).unwrap_or_default(),
        acr: authentication.map(|it| it.acr.to_string()).unwrap_or_default(),
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}
