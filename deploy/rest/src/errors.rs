//! Errors in the document: a `google.rpc.Status` with the details that our services send.
//!
//! Written by hand, because the comments in Google's protos are about Google's services, and
//! because the reasons are listed as enums here.

use prost_reflect::DescriptorPool;
use serde_json::{Value, json};

use crate::schema::{Schemas, enumeration};

/// Packages of the enums of reasons. The services send the package as the `domain` of an error.
const REASONS: [&str; 3] = ["authz.v1", "auth.v1", "game.v1"];
/// Prefix of the reasons in the protos. Errors are sent without it.
const PREFIX: &str = "ERROR_REASON_";

/// Adds the schema of errors, and returns a reference to it.
#[expect(clippy::too_many_lines, reason = "one document")]
pub(crate) fn schema(pool: &DescriptorPool, schemas: &mut Schemas) -> Result<Value, String> {
    let mut reasons = Vec::new();
    for package in REASONS {
        let name = format!("{package}.ErrorReason");
        let values = pool.get_enum_by_name(&name).ok_or_else(|| format!("no {name}"))?;
        let label = |value: &str| {
            let name = value.strip_prefix(PREFIX).unwrap_or(value);
            (name != "UNSPECIFIED").then(|| name.to_owned())
        };
        reasons.push(schemas.insert(&name, enumeration(&values, label)));
    }
    let details: Vec<Value> = [
        detail(
            schemas,
            "ErrorInfo",
            "Reason for the error, for programs. Every error has one.",
            &["reason", "domain", "metadata"],
            &json!({
                "reason": {"description": "Reason for the error. It is unique within its `domain`.", "anyOf": reasons},
                "domain": {
                    "type": "string",
                    "description": "Package of the enum that the reason belongs to.",
                    "enum": REASONS,
                },
                "metadata": {
                    "type": "object",
                    "description": "Further facts. The description of each reason names its keys.",
                    "additionalProperties": {"type": "string"},
                },
            }),
        ),
        {
            let violation = schemas.insert(
                "google.rpc.BadRequest.FieldViolation",
                json!({
                    "type": "object",
                    "description": "An invalid field.",
                    "properties": {
                        "field": {"type": "string", "description": "Path of the field in the request, such as \
                        `user.firstName` or `roles[2]`."},
                        "description": {"type": "string", "description": "Explanation that completes a sentence which \
                        begins with the field, such as `must be 0 to 8`."},
                        "reason": {"type": "string", "description": "Always empty."},
                    },
                    "required": ["field", "description"],
                }),
            );
            detail(
                schemas,
                "BadRequest",
                "Invalid fields of the request, or fields whose values are taken.",
                &["fieldViolations"],
                &json!({
                    "fieldViolations": {"type": "array", "description": "All invalid fields.", "items": violation},
                }),
            )
        },
        detail(
            schemas,
            "RetryInfo",
            "Time to wait before sending the same request again.",
            &["retryDelay"],
            &json!({
                "retryDelay": {
                    "type": "string",
                    "description": "Seconds, such as `1.5s`.",
                    "pattern": r"^\d+(\.\d+)?s$",
                },
            }),
        ),
        detail(
            schemas,
            "ResourceInfo",
            "Object that does not exist.",
            &["resourceType", "resourceName"],
            &json!({
                "resourceType": {"type": "string", "description": "Kind of object, such as `game` or `role`."},
                "resourceName": {"type": "string", "description": "Id or code name of the object."},
                "owner": {"type": "string", "description": "Always empty."},
                "description": {"type": "string", "description": "Explanation. May be empty."},
            }),
        ),
        detail(
            schemas,
            "RequestInfo",
            "Id of the request, to be quoted in a bug report.",
            &["requestId"],
            &json!({
                "requestId": {"type": "string", "description": "Id of the request, as in the header `x-request-id` \
                and in the log of the server."},
                "servingData": {"type": "string", "description": "Always empty."},
            }),
        ),
    ]
    .into();
    Ok(schemas.insert(
        "google.rpc.Status",
        json!({
            "type": "object",
            "description": "An error.",
            "properties": {
                "code": {"type": "integer", "format": "int32", "description": "Number of the gRPC code, such as 16 \
                for UNAUTHENTICATED."},
                "message": {"type": "string", "description": "Explanation for developers, in English. Programs should \
                go by the reason in `details` instead."},
                "details": {
                    "type": "array",
                    "description": "Details for programs, at most one of each kind.",
                    "items": {"anyOf": details},
                },
            },
            "required": ["code", "message", "details"],
        }),
    ))
}

/// Returns an example of an error.
pub(crate) fn example() -> Value {
    json!({
        "code": 3,
        "message": "invalid request: login must be 3 to 32 of the characters A-Z a-z 0-9 _ . -",
        "details": [
            {
                "@type": type_url("ErrorInfo"),
                "reason": "FIELDS_INVALID",
                "domain": "authz.v1",
                "metadata": {},
            },
            {
                "@type": type_url("BadRequest"),
                "fieldViolations": [{
                    "field": "login",
                    "description": "must be 3 to 32 of the characters A-Z a-z 0-9 _ . -",
                    "reason": "",
                }],
            },
            {
                "@type": type_url("RequestInfo"),
                "requestId": "0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42",
                "servingData": "",
            },
        ],
    })
}

fn detail(schemas: &mut Schemas, name: &str, description: &str, required: &[&str], properties: &Value) -> Value {
    let mut schema = json!({
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required,
    });
    schema["properties"]["@type"] = json!({"type": "string", "const": type_url(name)});
    if let Some(required) = schema["required"].as_array_mut() {
        required.push(json!("@type"));
    }
    schemas.insert(&format!("google.rpc.{name}"), schema)
}

fn type_url(name: &str) -> String {
    format!("type.googleapis.com/google.rpc.{name}")
}
