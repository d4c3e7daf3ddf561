//! The OpenAPI document, which describes every RPC that outside clients may call.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, ServiceDescriptor};
use serde_json::{Map, Value, json};

use crate::{
    Api,
    comments::comment,
    errors, examples,
    names::{BEARER, ERROR, TRANSPORT},
    operation::{ensure_known, operation, operation_id, path},
    schema::Schemas,
};

const ABOUT: &str = "\
Users, roles and sessions, and a game backend: the REST interface of two gRPC services, as the gateway serves it.

**Log in first.** `POST /v1/auth/register` and `POST /v1/auth/login` return an access token and a refresh token. By \
default the access token is valid for 30 minutes; `POST /v1/auth/rotate` exchanges the refresh token for new tokens. \
Send `authorization: Bearer <access token>` with all other calls; in Swagger, press **Authorize** and paste the access \
token. Names such as `RotateTokens` are those of RPCs: each operation names its own after `gRPC:`.

**JSON** follows the proto3 mapping: field names are in lowerCamelCase, 64-bit integers are strings, times are in RFC \
3339 format, and enum values are given by name. Requests may also use snake_case field names, as the descriptions \
here do. Responses contain all fields, even if they are zero or empty. Unknown fields in a request are ignored.

**Errors** are a `google.rpc.Status`. `code` is the number of the gRPC code, and `message` is an explanation for \
developers. Programs should go by `details`: an `ErrorInfo` with a stable `reason`, a `BadRequest` that lists all \
invalid fields, and a `RetryInfo` if it makes sense to try again (also in the header `retry-after`, in seconds). A \
401 response has the header `www-authenticate`. Every response has the header `x-request-id`; quote it in bug \
reports.

| HTTP | gRPC |
|---|---|
| 400 | INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE |
| 401 | UNAUTHENTICATED |
| 403 | PERMISSION_DENIED |
| 404 | NOT_FOUND |
| 405 | UNIMPLEMENTED: the path exists with other methods, which the header `allow` lists |
| 409 | ABORTED, ALREADY_EXISTS |
| 429 | RESOURCE_EXHAUSTED |
| 500 | INTERNAL |
| 501 | UNIMPLEMENTED |
| 503 | UNAVAILABLE |
| 504 | DEADLINE_EXCEEDED |

**Web pages** send `x-token-transport: cookie`, so that the refresh token stays in an HttpOnly cookie that scripts \
cannot read.";

/// Services that a newcomer calls first, so they are listed first. The others follow in the order
/// of the protos.
const FIRST: [&str; 5] = [
    "AuthService",
    "AccountService",
    "GameService",
    "HistoryService",
    "LeaderboardService",
];

fn services(pool: &DescriptorPool) -> Vec<ServiceDescriptor> {
    let mut services: Vec<_> = pool.services().collect();
    let place = |service: &ServiceDescriptor| FIRST.iter().position(|name| *name == service.name());
    services.sort_by_key(|service| place(service).unwrap_or(FIRST.len()));
    services
}

/// Builds the document. Fails if the lists in this crate name RPCs or operations that do not exist.
#[expect(clippy::too_many_lines, reason = "one document")]
pub(crate) fn document(api: &Api) -> Result<Value, String> {
    let pool = &api.pool;
    ensure_known(pool)?;
    examples::ensure_known(pool)?;
    let mut schemas = Schemas::default();
    let mut tags = Vec::new();
    let mut paths: Map<String, Value> = Map::new();
    let mut operations = BTreeSet::new();
    for service in services(pool) {
        let mut is_outside = false;
        for rpc in api.rpcs(&service)? {
            for rule in &rpc.http {
                is_outside = true;
                let operation = operation(api, &rpc, rule, &mut schemas)?;
                operations.insert(operation_id(&rpc, rule));
                let item = paths.entry(path(&rpc, rule)).or_insert_with(|| json!({}));
                item[rule.method] = operation;
            }
        }
        if is_outside {
            let text = comment(&service.parent_file(), service.path());
            tags.push(json!({"name": service.name(), "description": text}));
        }
    }
    if let Some((name, _)) = examples::INCLUDED.iter().find(|(name, _)| !operations.contains(*name)) {
        return Err(format!("there is no operation {name}"));
    }
    let status = errors::schema(pool, &mut schemas)?;
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Identity and games",
            "version": "v1",
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.into_components(),
            "responses": {
                ERROR: {
                    "description": "An error.",
                    "headers": {
                        "x-request-id": {
                            "description": "Id of the request, to be quoted in a bug report.",
                            "schema": {"type": "string"},
                        },
                        "retry-after": {
                            "description": "Seconds to wait before trying again. Sent if `details` contains a \
                                `RetryInfo`.",
                            "schema": {"type": "integer"},
                        },
                        "www-authenticate": {
                            "description": "Challenge of a 401 response (RFC 6750).",
                            "schema": {"type": "string"},
                        },
                        "allow": {
                            "description": "Methods of the path. Sent with a 405 response.",
                            "schema": {"type": "string"},
                        },
                    },
                    "content": {"application/json": {"schema": status, "example": errors::example()}},
                },
            },
            "parameters": {
                TRANSPORT: {
                    "name": TRANSPORT,
                    "in": "header",
                    "description": "For web pages: the refresh token travels in an HttpOnly cookie instead of the \
                    JSON body. The cookie is `__Host-refresh_token`; over plain HTTP, for development only, \
                    `refresh_token`. Without this header it is ignored. The server must allow the page's `origin`.",
                    "schema": {"type": "string", "enum": ["cookie"]},
                },
            },
            "securitySchemes": {
                BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "The `accessToken` \
                    of a login or registration."},
            },
        },
    }))
}
