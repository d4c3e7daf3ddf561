//! An RPC as an operation of OpenAPI.

use access::policy::Policy;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::{
    Api,
    comments::{comment, summary},
    names::{BEARER, COOKIE, ERROR, TRANSPORT},
    rpc::{HttpRule, Rpc},
    schema::{Schemas, is_secret},
};

/// RPCs whose refresh token may travel in a cookie: those that answer with one.
const GIVES_COOKIE: [&str; 4] = [
    "auth.v1.AuthService.Register",
    "auth.v1.AuthService.Login",
    "auth.v1.AuthService.RotateTokens",
    "auth.v1.AccountService.ChangePassword",
];
/// Those that go by one.
const TAKES_COOKIE: [&str; 4] = [
    "auth.v1.AuthService.RefreshAccessToken",
    "auth.v1.AuthService.RotateTokens",
    "auth.v1.AuthService.Logout",
    "auth.v1.AuthService.RevokeToken",
];
/// Those that take it away.
const CLEARS_COOKIE: [&str; 2] = ["auth.v1.AuthService.RevokeAllTokens", "auth.v1.AccountService.DeleteMe"];

/// An RPC that is named above and is not there has another name by now.
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

/// The path of a rule with the names that JSON has.
pub(crate) fn path(rpc: &Rpc, rule: &HttpRule) -> String {
    let mut path = rule.path.clone();
    for name in rule.path_fields() {
        let label = label(&resolve(&rpc.method.input(), name));
        path = path.replace(&format!("{{{name}}}"), &format!("{{{label}}}"));
    }
    path
}

/// The operation.
pub(crate) fn operation(api: &Api, rpc: &Rpc, rule: &HttpRule, schemas: &mut Schemas) -> Value {
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
    let parameters = parameters(rpc, rule, schemas);
    if !parameters.is_empty() {
        set("parameters", parameters.into());
    }
    if let Some(schema) = body(&method.input(), rule, schemas) {
        set(
            "requestBody",
            json!({"required": true, "content": {"application/json": {"schema": schema}}}),
        );
    }
    let answer = schemas.message(&method.output());
    let of_answer = summary(&comment(&method.output().parent_file(), method.output().path()));
    let success = if method.is_server_streaming() {
        json!({
            "description": format!("{of_answer}. One server-sent event for each, whose `data` is the JSON of a message; the answer ends when the stream does."),
            "content": {"text/event-stream": {"schema": {"type": "string"}, "x-event-data": answer}},
        })
    } else {
        let mut success = json!({"description": of_answer, "content": {"application/json": {"schema": answer}}});
        if GIVES_COOKIE.contains(&method.full_name()) {
            success["headers"] = json!({"set-cookie": {
                "description": format!("With `{TRANSPORT}: cookie`, the refresh token."),
                "schema": {"type": "string"},
            }});
        }
        success
    };
    set(
        "responses",
        json!({"200": success, "default": {"$ref": format!("#/components/responses/{ERROR}")}}),
    );
    operation.into()
}

/// Service and method, and for an additional binding also its verb, such as `AccountService_UpdateMe_update`.
fn operation_id(rpc: &Rpc, rule: &HttpRule) -> String {
    let id = format!("{}_{}", rpc.method.parent_service().name(), rpc.method.name());
    let is_usual = rpc.http.first().is_some_and(|usual| usual.path == rule.path);
    match rule.path.rsplit_once(':') {
        Some((_, verb)) if !is_usual => format!("{id}_{verb}"),
        _ => id,
    }
}

fn description(api: &Api, rpc: &Rpc, text: &str) -> String {
    let who = match &rpc.policy {
        Policy::Public => "Anybody may call this.".to_owned(),
        Policy::Authenticated => "Needs an access token.".to_owned(),
        Policy::Missing => "Nobody may call this.".to_owned(),
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
                [role] => format!("Needs the permission `{permission}`, which the role `{role}` has from the start."),
                _ => format!(
                    "Needs the permission `{permission}`, which the roles `{}` have from the start.",
                    roles.join("`, `")
                ),
            }
        }
    };
    let grpc = rpc.grpc_path();
    let audience = if api.policies.wants_exact_audience(&grpc) {
        " The access token has to be for `auth-service` alone: ask for it with `audience`."
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

fn parameters(rpc: &Rpc, rule: &HttpRule, schemas: &mut Schemas) -> Vec<Value> {
    let input = rpc.method.input();
    let in_path = rule.path_fields();
    let mut parameters: Vec<Value> = in_path
        .iter()
        .map(|name| {
            let fields = resolve(&input, name);
            let mut parameter = parameter("path", &label(&fields), &fields, schemas);
            parameter["required"] = json!(true);
            parameter
        })
        .collect();
    if rule.body != "*" {
        // URLs end up in logs and browser histories, so they must not contain secrets.
        let queried = input
            .fields()
            .filter(|field| field.name() != rule.body && !in_path.contains(&field.name()) && !is_secret(field));
        for field in queried {
            let fields = [field];
            parameters.push(parameter("query", &label(&fields), &fields, schemas));
        }
    }
    let name = rpc.method.full_name();
    if GIVES_COOKIE.contains(&name) || TAKES_COOKIE.contains(&name) || CLEARS_COOKIE.contains(&name) {
        parameters.push(json!({"$ref": format!("#/components/parameters/{TRANSPORT}")}));
    }
    parameters
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

fn body(input: &MessageDescriptor, rule: &HttpRule, schemas: &mut Schemas) -> Option<Value> {
    match rule.body.as_str() {
        "" => None,
        "*" => {
            let in_path = rule.path_fields();
            Some(if in_path.is_empty() {
                schemas.message(input)
            } else {
                schemas.object(input, &in_path)
            })
        }
        name => Some(schemas.field(&input.get_field_by_name(name)?)),
    }
}

/// The fields on the way to `role.code_name`.
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

/// What a path or a query calls the field. `role.code_name` is `codeName`, as where the role is read: two templates that differ in their names
/// alone are the same path.
fn label(fields: &[FieldDescriptor]) -> String {
    fields
        .last()
        .map(|field| field.json_name().to_owned())
        .unwrap_or_default()
}
