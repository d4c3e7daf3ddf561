//! Checks that the committed files match the protos, and that the OpenAPI document makes sense to
//! its readers.

use std::{fs, str};

use serde_json::{Value, json};

#[test]
fn the_committed_files_are_up_to_date() {
    for file in rest::files().unwrap() {
        let committed = fs::read(&file.path).unwrap_or_default();
        let path = file.path.display();
        assert!(
            committed == file.content,
            "{path} is behind the protos: run `cargo run -p rest`"
        );
    }
}

#[test]
fn every_rpc_with_an_http_rule_is_in_the_document() {
    let [openapi, _] = rest::files().unwrap();
    let openapi = str::from_utf8(&openapi.content).unwrap();
    let rpcs = rest::rpcs().unwrap();
    assert!(rpcs.len() > 80, "{}", rpcs.len());
    for rpc in rpcs {
        let id = format!("\"{}_{}\"", rpc.method.parent_service().name(), rpc.method.name());
        assert_eq!(openapi.contains(&id), !rpc.http.is_empty(), "{id}");
    }
}

/// Lists the map fields of our protos. Envoy 1.40 crashes when it converts a map with an empty
/// value to JSON (protobuf issue 26885), so the code that fills a map has to leave empty values
/// out.
#[test]
fn every_map_field_is_known_to_omit_empty_values() {
    let mut maps: Vec<String> = Vec::new();
    for rpc in rest::rpcs().unwrap() {
        let fields = rpc
            .method
            .parent_pool()
            .all_messages()
            .flat_map(|message| message.fields().collect::<Vec<_>>());
        let of_ours = fields.filter(|field| field.is_map() && !field.full_name().starts_with("google."));
        maps.extend(of_ours.map(|field| field.full_name().to_owned()));
    }
    maps.sort();
    maps.dedup();
    // This map is filled in `grpc::audit`. The map in errors is filled in `base::error`.
    assert_eq!(maps, ["auth.v1.AuditEvent.details"]);
}

fn document() -> Value {
    let [openapi, _] = rest::files().expect("the generated files");
    serde_json::from_slice(&openapi.content).expect("JSON")
}

#[test]
fn required_fields_are_in_the_schema_and_in_the_example() {
    let document = document();
    let required = &document["components"]["schemas"]["auth.v1.RegisterRequest"]["required"];
    assert_eq!(required, &json!(["email", "login", "password", "passwordConfirmation"]));
    let body = &document["paths"]["/v1/auth/register"]["post"]["requestBody"]["content"]["application/json"];
    assert_eq!(
        body["example"],
        json!({
            "email": "user@example.com",
            "login": "ann",
            "password": "correct horse battery",
            "passwordConfirmation": "correct horse battery",
        })
    );
    // A field in the path is not in the body.
    let update = &document["paths"]["/v1/roles/{codeName}"]["patch"];
    let body = &update["requestBody"]["content"]["application/json"];
    assert_eq!(body["example"], json!({"name": "Moderators"}));
    assert_eq!(body["schema"]["properties"]["codeName"], Value::Null);
    assert_eq!(body["schema"]["required"], Value::Null);
    assert_eq!(body["schema"]["properties"]["createTime"]["readOnly"], true);
}

#[test]
fn examples_of_responses_agree_with_their_rpcs() {
    let document = document();
    let example = |method: &str, path: &str| {
        let operation = &document["paths"][path][method];
        operation["responses"]["200"]["content"]["application/json"]["example"].clone()
    };
    let deactivated = example("post", "/v1/users/{userId}:deactivate");
    assert_eq!(deactivated["user"]["isActive"], false);
    let assigned = example("post", "/v1/users/{userId}:assignRole");
    assert_eq!(assigned["roles"], json!(["moderator", "player"]));
    let cancelled = example("post", "/v1/games/{gameId}:cancel");
    assert_eq!(cancelled["game"]["state"], "GAME_STATE_CANCELLED");
    assert_eq!(cancelled["game"]["expireTime"], Value::Null);
    let finished = example("get", "/v1/finished-games");
    assert_eq!(finished["games"][0]["endReason"], "END_REASON_RESIGNATION");
    assert_eq!(finished["games"][0]["moves"].as_array().map(Vec::len), Some(2));
    let rotated = example("post", "/v1/auth/rotate");
    let sent = &document["paths"]["/v1/auth/rotate"]["post"]["requestBody"]["content"]["application/json"]["example"];
    assert_ne!(rotated["tokens"]["refreshToken"], sent["refreshToken"]);
}

#[test]
fn error_reasons_are_enums() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let reason = &schemas["google.rpc.ErrorInfo"]["properties"]["reason"]["anyOf"];
    let packages = ["authz.v1", "auth.v1", "game.v1"];
    let references = packages.map(|package| json!({"$ref": format!("#/components/schemas/{package}.ErrorReason")}));
    assert_eq!(reason, &json!(references));
    for (package, known) in packages.into_iter().zip(["TOKEN_STALE", "LAST_ADMIN", "CELL_TAKEN"]) {
        let schema = &schemas[format!("{package}.ErrorReason")];
        let values = schema["enum"].as_array().unwrap();
        assert!(values.contains(&json!(known)), "{package}");
        for value in values {
            let value = value.as_str().unwrap();
            assert!(!value.starts_with("ERROR_REASON_") && value != "UNSPECIFIED", "{value}");
            let described = format!("- `{value}`: ");
            assert!(schema["description"].as_str().unwrap().contains(&described), "{value}");
        }
    }
}

#[test]
fn every_description_and_summary_is_well_formed() {
    let document = document();
    let mut texts = Vec::new();
    collect(&document, &mut texts);
    assert!(texts.len() > 600, "{}", texts.len());
    for text in texts {
        assert!(text.len() > 4, "{text:?}");
        assert!(!text.contains("googleapis.com\"") && !text.contains("pubsub"), "{text}");
    }
    for operation in document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
    {
        let summary = operation["summary"].as_str().unwrap();
        assert!(
            summary.contains(' ') && summary.len() < 140 && !summary.ends_with('.'),
            "{summary}"
        );
    }
}

/// Collects all descriptions in the document.
fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(text) if name == "description" => texts.push(text),
                    // Examples can have a field with the name `description`.
                    _ if name == "example" => {}
                    _ => collect(value, texts),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        _ => {}
    }
}
