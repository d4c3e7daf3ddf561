//! `auth.v1.KeyService`, and the same key set on the HTTP port.

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    Router,
    http::{
        HeaderMap, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, ETAG},
    },
    response::IntoResponse as _,
    routing::get,
};
use base::validate::InvalidFields;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proto::auth::v1::{
    GetJwksRequest, GetJwksResponse, ListSigningKeysRequest, ListSigningKeysResponse, RetireSigningKeyRequest,
    RetireSigningKeyResponse, RotateSigningKeyRequest, RotateSigningKeyResponse, SigningKey,
    key_service_server::KeyService, signing_key,
};
use tonic::{Request, Response, Status};

use super::request_context::request_context;
use crate::{
    domain::KeyRing,
    etag,
    model::{KeyState, SigningKeyRecord},
};

/// Path at which verifiers find the keys (RFC 8414, `jwks_uri`).
const JWKS_PATH: &str = "/.well-known/jwks.json";
/// Maximum length of a key id, in bytes. Ours have 43.
const MAX_KID_LEN: usize = 128;
/// Media type of a set of keys (RFC 7517, section 8.5.2).
const MEDIA_TYPE: &str = "application/jwk-set+json";

/// Serves `auth.v1.KeyService`.
#[derive(Clone, Debug)]
pub(crate) struct KeyRpc {
    pub(crate) keys: KeyRing,
}

#[tonic::async_trait]
impl KeyService for KeyRpc {
    async fn get_jwks(&self, _request: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        Ok(Response::new(GetJwksResponse::from(&self.keys.jwks())))
    }

    async fn list_signing_keys(
        &self,
        _request: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        let keys = self.keys.list().await?;
        Ok(Response::new(ListSigningKeysResponse {
            signing_keys: keys.into_iter().map(message).collect(),
        }))
    }

    async fn rotate_signing_key(
        &self,
        request: Request<RotateSigningKeyRequest>,
    ) -> Result<Response<RotateSigningKeyResponse>, Status> {
        let key = self.keys.rotate(&request_context(&request)).await?;
        Ok(Response::new(RotateSigningKeyResponse {
            signing_key: Some(message(key)),
        }))
    }

    async fn retire_signing_key(
        &self,
        request: Request<RetireSigningKeyRequest>,
    ) -> Result<Response<RetireSigningKeyResponse>, Status> {
        let context = request_context(&request);
        let kid = request.into_inner().kid;
        if kid.is_empty() {
            return Err(InvalidFields::one("kid", "is required").into());
        }
        if kid.len() > MAX_KID_LEN {
            return Err(InvalidFields::one("kid", "must be at most 128 bytes").into());
        }
        let active = self.keys.retire(&context, &kid).await?;
        Ok(Response::new(RetireSigningKeyResponse {
            active_key: Some(message(active)),
        }))
    }
}

impl KeyRpc {
    /// Serves the set of keys over HTTP.
    pub(crate) fn router(self) -> Router {
        let document = async move |request: HeaderMap| {
            let body = serde_json::to_vec(&self.keys.jwks()).unwrap_or_default();
            let tag = format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, &body)));
            let cache = format!("public, max-age={}", self.keys.cache_time().as_secs());
            let is_known = etag::is_known(&request, &tag);
            let headers = [(CACHE_CONTROL, cache), (ETAG, tag)];
            if is_known {
                (StatusCode::NOT_MODIFIED, headers).into_response()
            } else {
                (headers, [(CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
            }
        };
        Router::new().route(JWKS_PATH, get(document))
    }
}

fn message(row: SigningKeyRecord) -> SigningKey {
    let state = match row.state {
        KeyState::Next => signing_key::State::Next,
        KeyState::Active => signing_key::State::Active,
        KeyState::Retired => signing_key::State::Retired,
    };
    SigningKey {
        kid: row.kid,
        state: state.into(),
        create_time: Some(row.create_time.into()),
        activate_time: Some(row.activate_time.into()),
        retire_time: row.retire_time.map(Into::into),
        expire_time: row.expire_time.map(Into::into),
    }
}
