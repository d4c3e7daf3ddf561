//! Converts an RPC to an OpenAPI operation.

use access::policy::Policy;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::{
    Api,
    comments::{comment, summary},
    examples,
    names::{BEARER, COOKIE, ERROR, TRANSPORT},
    rpc::{HttpRule, Rpc},
    schema::{Behavior, Schemas, is_secret},
};

/// RPCs that set the cookie: their response contains a refresh token.
const GIVES_COOKIE: [&str; 9] = [
    "auth.v1.AuthService.Register",
    "auth.v1.AuthService.RegisterGuest",
    "auth.v1.AuthService.Login",
    "auth.v1.AuthService.LoginGuest",
    "auth.v1.AuthService.CompleteLogin",
    "auth.v1.AuthService.ResetPassword",
    "auth.v1.AuthService.RotateTokens",
    "auth.v1.AccountService.ChangePassword",
    "auth.v1.AccountService.UpgradeAccount",
];
/// RPCs that read the cookie.
const TAKES_COOKIE: [&str; 4] = [
    "auth.v1.AuthService.RefreshAccessToken",
    "auth.v1.AuthService.RotateTokens",
    "auth.v1.AuthService.Logout",
    "auth.v1.AuthService.RevokeToken",
];
/// RPCs that delete the cookie.
const CLEARS_COOKIE: [&str; 2] = ["auth.v1.AuthService.RevokeAllTokens", "auth.v1.AccountService.DeleteMe"];

/// Fails if a list above names an RPC that does not exist, for example after it was renamed.
pub(crate) fn ensure_known(pool: &DescriptorPool) -> Result<(), String> {
    let known = |name: &str| {
        let methods = pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>());
        methods.into_iter().any(|method| method.full_name() == name)
    };
    let mut named = GIVES_COOKIE.iter().chain(&TAKES_COOKIE).chain(&CLEARS_COOKIE);
    match named.find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => Err(format!("there is no RPC {name}")),
    }
}

/// Returns the path of a rule, with the names of its fields as in JSON.
pub(crate) fn path(rpc: &Rpc, rule: &HttpRule) -> String {
    let mut path = rule.path.clone();
    for name in rule.path_fields() {
        let label = label(&resolve(&rpc.method.input(), name));
        path = path.replace(&format!("{{{name}}}"), &format!("{{{label}}}"));
    }
    path
}

/// Builds the operation of one HTTP rule of an RPC.
pub(crate) fn operation(api: &Api, rpc: &Rpc, rule: &HttpRule, schemas: &mut Schemas) -> Result<Value, String> {
    let method = &rpc.method;
    let service = method.parent_service();
    let text = comment(&service.parent_file(), method.path());
    let mut operation = Map::new();
    let mut set = |name: &str, value: Value| operation.insert(name.to_owned(), value);

    set("tags", json!([service.name()]));
    set("summary", json!(summary(&text)));
    set("description", json!(description(api, rpc, &text)));
    set("operationId", json!(operation_id(rpc, rule)));
    set("security", security(rpc));
    let parameters = parameters(rpc, rule, schemas)?;
    if !parameters.is_empty() {
        set("parameters", parameters.into());
    }
    if let Some((schema, example)) = body(rpc, rule, schemas)? {
        set(
            "requestBody",
            json!({"required": true, "content": {"application/json": {"schema": schema, "example": example}}}),
        );
    }
    let answer = schemas.message(&method.output());
    let example = examples::response(&method.output())?;
    let success = if method.is_server_streaming() {
        json!({
            "description": "Success. Each event's `data` is one JSON message with the schema in `x-event-data`.",
            "content": {"text/event-stream": {
                "schema": {"type": "string"},
                "x-event-data": answer,
                "example": format!("data: {example}\n\n"),
            }},
        })
    } else {
        let mut success = json!({
            "description": "Success.",
            "content": {"application/json": {"schema": answer, "example": example}},
        });
        if GIVES_COOKIE.contains(&method.full_name()) {
            success["headers"] = json!({"set-cookie": {
                "description": format!("The refresh token, if the request has the header `{TRANSPORT}: cookie`."),
                "schema": {"type": "string"},
            }});
        }
        success
    };
    set(
        "responses",
        json!({"200": success, "default": {"$ref": format!("#/components/responses/{ERROR}")}}),
    );
    Ok(operation.into())
}

/// Returns the id of an operation: service and method, and the verb for an additional binding, such
/// as `AccountService_UpdateMe_update`.
pub(crate) fn operation_id(rpc: &Rpc, rule: &HttpRule) -> String {
    let id = format!("{}_{}", rpc.method.parent_service().name(), rpc.method.name());
    let is_usual = rpc.http.first().is_some_and(|usual| usual.path == rule.path);
    match rule.path.rsplit_once(':') {
        Some((_, verb)) if !is_usual => format!("{id}_{verb}"),
        _ => id,
    }
}

fn description(api: &Api, rpc: &Rpc, text: &str) -> String {
    let who = match &rpc.policy {
        Policy::Public => "Needs no access token.".to_owned(),
        Policy::Authenticated => "Needs an access token.".to_owned(),
        Policy::Missing => "Refused to every caller.".to_owned(),
        Policy::Permission(permission) => {
            let grants = api.policies.default_grants();
            let mut roles: Vec<&str> = grants
                .filter(|grant| grant.1 == permission)
                .map(|grant| grant.0)
                .collect();
            roles.sort_unstable();
            roles.dedup();
            match roles[..] {
                [] => format!("Needs the permission `{permission}`."),
                [role] => format!("Needs the permission `{permission}`, which the role `{role}` has by default."),
                _ => format!(
                    "Needs the permission `{permission}`, which the roles `{}` have by default.",
                    roles.join("`, `")
                ),
            }
        }
    };
    let grpc = rpc.grpc_path();
    let audience = if api.policies.wants_exact_audience(&grpc) {
        " A deployment can require an access token for `auth-service` only: log in or refresh with this `audience`."
    } else {
        ""
    };
    format!("{text}\n\n{who}{audience} gRPC: `{}`", grpc.trim_start_matches('/'))
}

fn security(rpc: &Rpc) -> Value {
    let name = rpc.method.full_name();
    let mut schemes = Vec::new();
    if rpc.policy != Policy::Public || name == "auth.v1.AuthService.Logout" {
        schemes.push(json!({BEARER: []}));
    }
    if TAKES_COOKIE.contains(&name) {
        schemes.push(json!({COOKIE: []}));
    }
    if rpc.policy == Policy::Public {
        schemes.push(json!({}));
    }
    schemes.into()
}

fn parameters(rpc: &Rpc, rule: &HttpRule, schemas: &mut Schemas) -> Result<Vec<Value>, String> {
    let input = rpc.method.input();
    let in_path = rule.path_fields();
    let mut parameters = Vec::new();
    for name in &in_path {
        let fields = resolve(&input, name);
        let mut parameter = parameter("path", &label(&fields), &fields, schemas);
        parameter["required"] = json!(true);
        if let Some(field) = fields.last() {
            parameter["example"] = examples::field(field)?;
        }
        parameters.push(parameter);
    }
    if rule.body != "*" {
        // URLs end up in logs and browser histories, so they must not contain secrets.
        let queried = input
            .fields()
            .filter(|field| field.name() != rule.body && !in_path.contains(&field.name()) && !is_secret(field));
        for field in queried {
            let fields = [field];
            let mut parameter = parameter("query", &label(&fields), &fields, schemas);
            if Behavior::Required.is_of(&fields[0]) {
                parameter["required"] = json!(true);
            }
            parameters.push(parameter);
        }
    }
    let name = rpc.method.full_name();
    if GIVES_COOKIE.contains(&name) || TAKES_COOKIE.contains(&name) || CLEARS_COOKIE.contains(&name) {
        parameters.push(json!({"$ref": format!("#/components/parameters/{TRANSPORT}")}));
    }
    Ok(parameters)
}

fn parameter(place: &str, name: &str, fields: &[FieldDescriptor], schemas: &mut Schemas) -> Value {
    let field = fields.last().expect("a path has a field");
    let mut schema = schemas.field(field);
    let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
    let mut parameter = json!({"name": name, "in": place});
    if let Some(description) = description {
        parameter["description"] = description;
    }
    parameter["schema"] = schema;
    parameter
}

/// Returns the schema of the body and its example, or `None` if the rule has no body.
fn body(rpc: &Rpc, rule: &HttpRule, schemas: &mut Schemas) -> Result<Option<(Value, Value)>, String> {
    let input = rpc.method.input();
    let in_path = rule.path_fields();
    let operation = operation_id(rpc, rule);
    let (message, without) = match rule.body.as_str() {
        "" => return Ok(None),
        "*" => (input, in_path),
        name => {
            let field = input.get_field_by_name(name);
            let Some(Kind::Message(message)) = field.map(|field| field.kind()) else {
                return Err(format!("{operation}: the body is no message"));
            };
            let prefix = format!("{name}.");
            let without = in_path.iter().filter_map(|path| path.strip_prefix(&prefix));
            (message, without.collect())
        }
    };
    let schema = if without.is_empty() {
        schemas.message(&message)
    } else {
        schemas.object(&message, &without)
    };
    Ok(Some((schema, examples::request(&operation, &message, &without)?)))
}

/// Returns the fields along a path such as `role.code_name`. Panics if one of them does not exist.
fn resolve(message: &MessageDescriptor, path: &str) -> Vec<FieldDescriptor> {
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    let mut next = Some(message.clone());
    for name in path.split('.') {
        let field = next.and_then(|message| message.get_field_by_name(name));
        let field = field.unwrap_or_else(|| panic!("{} has no field {path}", message.full_name()));
        next = match field.kind() {
            Kind::Message(message) => Some(message),
            _ => None,
        };
        fields.push(field);
    }
    fields
}

/// Returns the name of a field in a path or query. `role.code_name` becomes `codeName`, as in the
/// path that reads a role: templates that differ only in the names of their fields must be the same
/// path.
fn label(fields: &[FieldDescriptor]) -> String {
    fields
        .last()
        .map(|field| field.json_name().to_owned())
        .unwrap_or_default()
}
