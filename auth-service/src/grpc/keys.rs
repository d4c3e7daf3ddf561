//! `auth.v1.KeyService`, and the same key set on the HTTP port.

use std::sync::Arc;

use axum::{
    Json, Router,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    routing::get,
};
use shared::proto::auth::v1::{self as proto, GetJwksRequest, GetJwksResponse, key_service_server::KeyService};
use tonic::{Request, Response, Status};

use crate::domain::KeyRing;

/// Where verifiers look for the keys (RFC 8414, `jwks_uri`).
const JWKS_PATH: &str = "/.well-known/jwks.json";
/// RFC 7517, section 8.5.2.
const MEDIA_TYPE: &str = "application/jwk-set+json";
/// A verifier may keep the set this long.
const CACHE: &str = "public, max-age=300";

/// Serves `auth.v1.KeyService`.
#[derive(Clone, Debug)]
pub(crate) struct KeyRpc {
    pub(crate) keys: Arc<KeyRing>,
}

#[tonic::async_trait]
impl KeyService for KeyRpc {
    async fn get_jwks(&self, _request: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        Ok(Response::new(self.keys.jwks().into()))
    }

    async fn list_signing_keys(
        &self,
        _: Request<proto::ListSigningKeysRequest>,
    ) -> Result<Response<proto::ListSigningKeysResponse>, Status> {
        Err(Status::unimplemented("list_signing_keys"))
    }

    async fn rotate_signing_key(
        &self,
        _: Request<proto::RotateSigningKeyRequest>,
    ) -> Result<Response<proto::RotateSigningKeyResponse>, Status> {
        Err(Status::unimplemented("rotate_signing_key"))
    }

    async fn retire_signing_key(
        &self,
        _: Request<proto::RetireSigningKeyRequest>,
    ) -> Result<Response<proto::RetireSigningKeyResponse>, Status> {
        Err(Status::unimplemented("retire_signing_key"))
    }
}

impl KeyRpc {
    /// The key set over HTTP.
    pub(crate) fn router(self) -> Router {
        let document = async move || {
            let headers = [(CACHE_CONTROL, CACHE), (CONTENT_TYPE, MEDIA_TYPE)];
            (headers, Json(self.keys.jwks().clone()))
        };
        Router::new().route(JWKS_PATH, get(document))
    }
}
