//! The OpenAPI document: everything that a client outside may call.

use prost_reflect::{DescriptorPool, ServiceDescriptor};
use serde_json::{Map, Value, json};

use crate::{
    Api,
    comments::comment,
    names::{BEARER, COOKIE, ERROR, TRANSPORT},
    operation::{ensure_known, operation, path},
    schema::Schemas,
};

const ABOUT: &str = "\
Identity and a game backend: the REST side of two gRPC services, as the gateway serves it.

**Log in, then call.** `POST /v1/auth/register` or `POST /v1/auth/login` answers with an access token, good for half an hour, and a refresh token, which \
`POST /v1/auth/rotate` replaces. Every other call brings `authorization: Bearer <access token>`.

**JSON** is proto3's: names in lowerCamelCase (snake_case, as the texts here write them, is taken too; errors have the former), 64-bit numbers as strings, times as RFC 3339, \
enums by name. Every field is in the answer, also where it is zero or empty. A field of a body that its schema lacks is ignored, not refused.

**Errors** are a `google.rpc.Status`: `code` is the number of the gRPC code, `message` is for people, and `details` holds an `ErrorInfo` with a stable `reason`, a \
`BadRequest` that names every bad field, and a `RetryInfo` where trying again helps, which the header `retry-after` repeats in seconds. A 401 has `www-authenticate`. The header `x-request-id` of every answer is what to quote.

| HTTP | gRPC |
|---|---|
| 400 | INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE |
| 401 | UNAUTHENTICATED |
| 403 | PERMISSION_DENIED |
| 404 | NOT_FOUND |
| 405 | UNIMPLEMENTED: the path has other methods, which the header `allow` lists |
| 409 | ABORTED, ALREADY_EXISTS |
| 429 | RESOURCE_EXHAUSTED |
| 500 | INTERNAL |
| 501 | UNIMPLEMENTED |
| 503 | UNAVAILABLE |
| 504 | DEADLINE_EXCEEDED |

**Pages in a browser** send `x-token-transport: cookie` and never see their refresh token.";

/// What a newcomer calls first comes first; the rest in the order of the protos.
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

/// The document.
pub(crate) fn document(api: &Api) -> Result<Value, String> {
    let pool = &api.pool;
    ensure_known(pool)?;
    let mut schemas = Schemas::default();
    let mut tags = Vec::new();
    let mut paths: Map<String, Value> = Map::new();
    for service in services(pool) {
        let mut is_outside = false;
        for rpc in api.rpcs(&service)? {
            for rule in &rpc.http {
                is_outside = true;
                let operation = operation(api, &rpc, rule, &mut schemas);
                let item = paths.entry(path(&rpc, rule)).or_insert_with(|| json!({}));
                item[rule.method] = operation;
            }
        }
        if is_outside {
            let text = comment(&service.parent_file(), service.path());
            tags.push(json!({"name": service.name(), "description": text}));
        }
    }
    let status = pool
        .get_message_by_name("google.rpc.Status")
        .ok_or("no google.rpc.Status")?;
    let status = schemas.message(&status);
    for detail in ["ErrorInfo", "BadRequest", "RetryInfo", "ResourceInfo", "RequestInfo"] {
        let name = format!("google.rpc.{detail}");
        schemas.message(&pool.get_message_by_name(&name).ok_or_else(|| format!("no {name}"))?);
    }
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
                    "description": "What went wrong.",
                    "headers": {
                        "x-request-id": {"description": "Quote it when you report the error.", "schema": {"type": "string"}},
                        "retry-after": {"description": "Seconds to wait, where `details` has a `RetryInfo`.", "schema": {"type": "integer"}},
                        "www-authenticate": {"description": "The challenge of a 401 (RFC 6750).", "schema": {"type": "string"}},
                        "allow": {"description": "The methods of the path, with a 405.", "schema": {"type": "string"}},
                    },
                    "content": {"application/json": {"schema": status}},
                },
            },
            "parameters": {
                TRANSPORT: {
                    "name": TRANSPORT,
                    "in": "header",
                    "description": "For a page in a browser: the refresh token travels in an HttpOnly cookie, not in the JSON. The page's `origin` must be an allowed one.",
                    "schema": {"type": "string", "enum": ["cookie"]},
                },
            },
            "securitySchemes": {
                BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "`accessToken` of a login or a registration."},
                COOKIE: {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "__Host-refresh_token",
                    "description": "Set by a login or a registration with `x-token-transport: cookie`. Counts with that header alone. Over plain HTTP, for development, it is called `refresh_token`.",
                },
            },
        },
    }))
}
