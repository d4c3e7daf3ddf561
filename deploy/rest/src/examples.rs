//! Examples of requests and responses, built from one example value per field.

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::schema::Behavior;

const ANN: &str = "0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42";
const BOB: &str = "0190b6e5-1c20-7d41-9a3b-7f2d8e6c5b10";
const KID: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
const TIME: &str = "2026-05-04T12:30:00Z";
const ACCESS_TOKEN: &str = "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFZERTQSJ9.eyJpc3MiOiJhdXRoLXNlcnZpY2UifQ.c2lnbmF0dXJl";
const REFRESH_TOKEN: &str = "v1.0190b6e4-a0b1-7c55-b1d2-3e4f5a6b7c8d.1.q3VnY2p6bXR0d2k0c2E5dW1hZ2p4b2VrZ3J5bTRqN2I";

/// Optional fields that the example of a request contains, by operation. Without them, the call
/// would do nothing.
pub(crate) const INCLUDED: &[(&str, &[&str])] = &[
    ("AccountService_UpdateMe", &["first_name"]),
    (
        "AccountService_UpdateMe_update",
        &["user.email", "user", "current_password"],
    ),
    ("AuthService_Logout", &["refresh_token"]),
    ("AuthService_RefreshAccessToken", &["refresh_token"]),
    ("AuthService_RevokeToken", &["token"]),
    ("AuthService_RotateTokens", &["refresh_token"]),
    ("RbacService_CreatePermission", &["resource", "action"]),
    ("RbacService_SetRolePermissions", &["permissions"]),
    ("RbacService_UpdateAction", &["name"]),
    ("RbacService_UpdatePermission", &["description"]),
    ("RbacService_UpdateResource", &["name"]),
    ("RbacService_UpdateRole", &["name"]),
    ("UserService_UpdateUser", &["first_name"]),
];

/// Returns the example of a request's body: its required fields, and those that [`INCLUDED`] names
/// for the operation.
pub(crate) fn request(operation: &str, message: &MessageDescriptor, without: &[&str]) -> Result<Value, String> {
    let included = INCLUDED.iter().find(|(name, _)| *name == operation);
    let included = included.map_or(&[][..], |(_, fields)| *fields);
    of_message(message, "", &|path, field| {
        !without.contains(&path) && (Behavior::Required.is_of(field) || included.contains(&path))
    })
}

/// Returns the example of a response: all fields but those in [`LEFT_OUT`].
pub(crate) fn response(message: &MessageDescriptor) -> Result<Value, String> {
    of_message(message, "", &|_, _| true)
}

/// Returns the example of a single field, as in a path. Fails if examples leave the field out.
pub(crate) fn field(field: &FieldDescriptor) -> Result<Value, String> {
    single(field, "", &|_, _| true)?.ok_or_else(|| format!("{} is left out of examples", field.full_name()))
}

/// Decides whether a field is shown, by its path in the example and its descriptor.
type Shown<'a> = &'a dyn Fn(&str, &FieldDescriptor) -> bool;

fn of_message(message: &MessageDescriptor, path: &str, shown: Shown<'_>) -> Result<Value, String> {
    let mut object = Map::new();
    for field in message.fields() {
        let path = if path.is_empty() {
            field.name().to_owned()
        } else {
            format!("{path}.{}", field.name())
        };
        if !shown(&path, &field) {
            continue;
        }
        let Some(value) = single(&field, &path, shown)? else {
            continue;
        };
        let value = if field.is_list() { json!([value]) } else { value };
        object.insert(field.json_name().to_owned(), value);
    }
    Ok(object.into())
}

/// Returns an example value of the field, or `None` if examples leave the field out.
fn single(field: &FieldDescriptor, path: &str, shown: Shown<'_>) -> Result<Option<Value>, String> {
    let name = field.full_name();
    if LEFT_OUT.iter().any(|suffix| name.ends_with(suffix)) {
        return Ok(None);
    }
    if let Some((_, value)) = OF_FIELD.iter().find(|(suffix, _)| name.ends_with(suffix)) {
        return Ok(Some((*value).into()));
    }
    if field.is_map() {
        return Ok(Some(json!({"role": "player"})));
    }
    let missing = || format!("{name} has no example");
    Ok(Some(match field.kind() {
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => json!(TIME),
            "google.protobuf.FieldMask" => json!("firstName,lastName"),
            _ => of_message(&message, path, shown)?,
        },
        Kind::Enum(values) => json!(of_enum(&values).ok_or_else(missing)?),
        Kind::Bool => json!(TRUE.contains(&field.name())),
        Kind::String => {
            let value = TEXTS.iter().find(|(name, _)| *name == field.name());
            json!(value.ok_or_else(missing)?.1)
        }
        // JSON writes 64-bit numbers as strings.
        Kind::Int64 | Kind::Uint64 => json!(number(field).ok_or_else(missing)?.to_string()),
        Kind::Double | Kind::Float => json!(2.5),
        _ => json!(number(field).ok_or_else(missing)?),
    }))
}

/// Returns the name of the first value other than 0, which is UNSPECIFIED.
fn of_enum(values: &EnumDescriptor) -> Option<String> {
    let mut said = values.values().filter(|value| value.number() != 0);
    said.next().map(|value| value.name().to_owned())
}

fn number(field: &FieldDescriptor) -> Option<i64> {
    let found = NUMBERS.iter().find(|(name, _)| *name == field.name());
    found.map(|(_, number)| *number)
}

/// Fields that examples leave out, because they describe something that has usually not happened.
const LEFT_OUT: &[&str] = &[
    "Game.finish_time",
    "Session.end_time",
    "SigningKey.expire_time",
    "SigningKey.retire_time",
    "User.email_verify_time",
    "User.force_logout_time",
    "User.invite_time",
];

/// Examples that depend on the message that contains the field, by the end of the field's full
/// name.
const OF_FIELD: &[(&str, &str)] = &[
    ("Action.code_name", "approve"),
    ("Action.name", "Approve"),
    ("AuditEvent.action", "user.deactivate"),
    ("AuditEvent.reason", ""),
    ("Game.end_reason", "END_REASON_UNSPECIFIED"),
    ("Game.state", "GAME_STATE_TURN"),
    ("Game.winner_mark", "MARK_UNSPECIFIED"),
    ("Game.winner_user_id", ""),
    ("Game.opponent", "OPPONENT_PLAYER"),
    ("GetActionRequest.code_name", "approve"),
    ("DeleteActionRequest.code_name", "approve"),
    ("Permission.name", "games:create"),
    ("GetPermissionRequest.name", "games:create"),
    ("DeletePermissionRequest.name", "games:create"),
    ("GetRoleRequest.code_name", "moderator"),
    ("DeleteRoleRequest.code_name", "moderator"),
    ("Role.code_name", "moderator"),
    ("Role.name", "Moderators"),
    ("Session.end_reason", ""),
    ("SigningKey.state", "STATE_ACTIVE"),
];

/// Flags that are true in examples.
const TRUE: &[&str] = &["is_active", "is_current", "is_declared", "allowed"];

const NUMBERS: &[(&str, i64)] = &[
    ("access_expires_in", 1800),
    ("attempts", 1),
    ("cell", 4),
    ("count", 2),
    ("draws", 1),
    ("expected_version", 3),
    ("games_needed", 0),
    ("losses", 1),
    ("overlap_seconds", 86_400),
    ("rank", 1),
    ("refresh_expires_in", 604_800),
    ("session_count", 2),
    ("typed_tries", 0),
    ("version", 3),
    ("wins", 5),
];

const TEXTS: &[(&str, &str)] = &[
    ("access_token", ACCESS_TOKEN),
    ("action", "create"),
    ("actor_client_id", "first-party"),
    ("actor_login", "ann"),
    ("actor_user_id", ANN),
    ("alg", "EdDSA"),
    ("board", "....X...."),
    ("client_id", "chat-service"),
    ("client_secret", "pC3wq1V2mJ8nY5tR7uA0bD4fG6hK9lZ1xS2eQ3vN4o"),
    ("code", "K7PX-3NQA"),
    ("code_name", "games"),
    ("crv", "Ed25519"),
    ("current_password", "correct horse battery"),
    ("description", "Games of tic-tac-toe."),
    (
        "device_token",
        "d1.0190b6e4-b2c3-7d66-a1e2-4f5a6b7c8d9e.0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42.\
         bXR0d2k0c2E5dW1hZ2p4b2VrZ3J5bTRqN2JxM1ZuWTJ",
    ),
    ("device_id", "0190b6e4-b2c3-7d66-a1e2-4f5a6b7c8d9e"),
    ("email", "user@example.com"),
    ("event_id", "0190b6e6-7a10-7b22-8c33-9d44ae55bf66"),
    ("first_name", "Ann"),
    ("game_id", "0190b6e7-2b30-7c41-8d52-9e63af74b085"),
    ("identifier", "user@example.com"),
    ("ip_address", "203.0.113.7"),
    ("kid", KID),
    ("kind", "password_changed"),
    ("kty", "OKP"),
    ("last_name", "Smith"),
    ("limit", "failed_logins.login"),
    ("limiter_bucket", "203.0.113.7"),
    ("locale", "en-GB"),
    ("login", "ann"),
    ("middle_name", ""),
    ("name", "Games"),
    ("new_password", "nine purple elephants"),
    ("new_password_confirmation", "nine purple elephants"),
    ("next_page_token", ""),
    ("o_login", "bob"),
    ("o_user_id", BOB),
    ("opponent_user_id", BOB),
    ("owner", "game-service"),
    ("password", "correct horse battery"),
    ("password_confirmation", "correct horse battery"),
    ("peer_address", "203.0.113.7"),
    ("permission", "games:create"),
    ("permissions", "games:create"),
    ("purpose", "password_reset"),
    ("recipient", "user@example.com"),
    ("refresh_token", REFRESH_TOKEN),
    ("request_id", "5f0c6c1e-8f4b-4c27-9d0e-3a1b2c4d5e6f"),
    ("resource", "games"),
    ("role", "moderator"),
    ("roles", "player"),
    ("session_id", "0190b6e4-a0b1-7c55-b1d2-3e4f5a6b7c8d"),
    ("subject_login", "bob"),
    ("subject_user_id", BOB),
    ("target_id", BOB),
    ("target_type", "user"),
    ("token", REFRESH_TOKEN),
    ("token_type", "Bearer"),
    ("turn_user_id", BOB),
    ("use", "sig"),
    ("user_agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"),
    ("user_id", ANN),
    ("x", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
    ("x_login", "ann"),
    ("x_user_id", ANN),
];
