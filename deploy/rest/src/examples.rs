//! Examples of requests and responses, built from one example value per field. Values that would
//! contradict the RPC are replaced.

mod replaced;

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
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
    ("AccountService_DeleteMe", &["current_password"]),
    ("AccountService_Reauthenticate", &["password"]),
    ("AccountService_UpdateMe", &["first_name"]),
    (
        "AccountService_UpdateMe_update",
        &["user.email", "user", "current_password"],
    ),
    ("AccountService_CreateTotpFactor", &["display_name"]),
    ("AuthService_CompleteLogin", &["totp_code"]),
    ("AuthService_Logout", &["refresh_token"]),
    ("AuthService_RefreshAccessToken", &["refresh_token"]),
    ("AuthService_RevokeToken", &["token"]),
    ("AuthService_RotateTokens", &["refresh_token"]),
    ("RbacService_CreateAction", &["name", "description"]),
    ("RbacService_CreatePermission", &["resource", "action", "description"]),
    ("RbacService_CreateResource", &["name", "description"]),
    ("RbacService_CreateRole", &["name", "description", "permissions"]),
    ("RbacService_SetRolePermissions", &["permissions"]),
    ("RbacService_UpdateAction", &["name"]),
    ("RbacService_UpdatePermission", &["description"]),
    ("RbacService_UpdateResource", &["name"]),
    ("RbacService_UpdateRole", &["name"]),
    (
        "ServiceAccountService_CreateServiceAccount",
        &["description", "roles", "permissions"],
    ),
    ("UserService_CreateUser", &["first_name", "last_name", "roles"]),
    (
        "UserService_InviteUser",
        &["first_name", "last_name", "roles", "locale"],
    ),
    ("UserService_UpdateUser", &["first_name"]),
];

/// Returns the example of a request's body: its required fields, and those that [`INCLUDED`] names
/// for the operation.
pub(crate) fn request(operation: &str, message: &MessageDescriptor, without: &[&str]) -> Result<Value, String> {
    let included = INCLUDED.iter().find(|(name, _)| *name == operation);
    let included = included.map_or(&[][..], |(_, fields)| *fields);
    let is_shown = |path: &str, field: &FieldDescriptor| {
        !without.contains(&path) && (Behavior::Required.is_of(field) || included.contains(&path))
    };
    of_message(message.name(), message, "", &is_shown)
}

/// Returns the example of a response: all fields but those in [`LEFT_OUT`].
pub(crate) fn response(message: &MessageDescriptor) -> Result<Value, String> {
    of_message(message.name(), message, "", &|_, _| true)
}

/// Returns the example of a single field, as in a path. Fails if examples leave the field out.
pub(crate) fn field(field: &FieldDescriptor) -> Result<Value, String> {
    let value = single("", field, "", &|_, _| true)?;
    value.ok_or_else(|| format!("{} is left out of examples", field.full_name()))
}

/// Fails if a replaced value belongs to a field that does not exist.
pub(crate) fn ensure_known(pool: &DescriptorPool) -> Result<(), String> {
    let mut keys = replaced::VALUES.iter().map(|(key, _)| *key);
    match keys.find(|key| !is_known(pool, key)) {
        None => Ok(()),
        Some(key) => Err(format!("there is no field {key}")),
    }
}

fn is_known(pool: &DescriptorPool, key: &str) -> bool {
    let mut parts = key.split('.');
    let name = parts.next().unwrap_or_default();
    let mut message = pool.all_messages().find(|message| message.name() == name);
    for part in parts {
        let Some(field) = message.and_then(|message| message.get_field_by_name(part)) else {
            return false;
        };
        message = match field.kind() {
            Kind::Message(inner) => Some(inner),
            _ => None,
        };
    }
    true
}

/// Decides whether a field is shown, by its path in the example and its descriptor.
type Shown<'a> = &'a dyn Fn(&str, &FieldDescriptor) -> bool;

/// Returns the example of a message. `root` is the name of the whole request or response, and
/// `path` leads from there to the message.
fn of_message(root: &str, message: &MessageDescriptor, path: &str, shown: Shown<'_>) -> Result<Value, String> {
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
        let key = format!("{root}.{path}");
        let value = match replaced::VALUES.iter().find(|(replaced, _)| *replaced == key) {
            Some((_, replaced::NOT_SET)) => None,
            Some((_, text)) => Some(serde_json::from_str::<Value>(text).map_err(|error| format!("{key}: {error}"))?),
            None => {
                let value = single(root, &field, &path, shown)?;
                value.map(|value| if field.is_list() { json!([value]) } else { value })
            }
        };
        if let Some(value) = value {
            object.insert(field.json_name().to_owned(), value);
        }
    }
    Ok(object.into())
}

/// Returns an example value of the field, or `None` if examples leave the field out.
fn single(root: &str, field: &FieldDescriptor, path: &str, shown: Shown<'_>) -> Result<Option<Value>, String> {
    let name = field.full_name();
    if LEFT_OUT.iter().any(|suffix| name.ends_with(suffix)) {
        return Ok(None);
    }
    if let Some((_, value)) = OF_FIELD.iter().find(|(suffix, _)| name.ends_with(suffix)) {
        return Ok(Some((*value).into()));
    }
    if field.is_map() {
        return Ok(Some(json!({"role": "moderator"})));
    }
    let missing = || format!("{name} has no example");
    Ok(Some(match field.kind() {
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => json!(TIME),
            "google.protobuf.FieldMask" => json!("firstName,lastName"),
            _ => of_message(root, &message, path, shown)?,
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
    ("Action.description", "Approve what others have proposed."),
    ("Action.name", "Approve"),
    ("AuditEvent.action", "role.assign"),
    ("AuditEvent.reason", ""),
    ("ChangeEmailRequest.email", "ann@example.org"),
    ("CreateServiceAccountRequest.description", "Chat between players."),
    ("CreateServiceAccountRequest.roles", "service"),
    ("CreateUserResponse.password_expire_time", "2026-05-11T12:30:00Z"),
    ("FormerEmail.email", "ann@example.org"),
    ("FormerEmail.expire_time", "2026-05-07T12:30:00Z"),
    ("Game.end_reason", "END_REASON_UNSPECIFIED"),
    ("Game.expire_time", "2026-05-05T12:31:10Z"),
    ("Game.last_move_time", "2026-05-04T12:31:10Z"),
    ("Game.state", "GAME_STATE_TURN"),
    ("Game.winner_mark", "MARK_UNSPECIFIED"),
    ("Game.winner_user_id", ""),
    ("Game.opponent", "OPPONENT_PLAYER"),
    ("GetActionRequest.code_name", "approve"),
    ("DeleteActionRequest.code_name", "approve"),
    ("MailedCode.expire_time", "2026-05-04T12:40:00Z"),
    ("Move.create_time", "2026-05-04T12:31:10Z"),
    ("Permission.description", "Create and join games."),
    ("Permission.name", "games:create"),
    ("GetPermissionRequest.name", "games:create"),
    ("DeletePermissionRequest.name", "games:create"),
    ("GetRoleRequest.code_name", "moderator"),
    ("DeleteRoleRequest.code_name", "moderator"),
    ("Role.code_name", "moderator"),
    ("Role.description", "Look after the players."),
    ("Role.name", "Moderators"),
    ("ServiceAccount.description", "Chat between players."),
    ("ServiceAccount.last_token_time", "2026-05-04T12:45:00Z"),
    ("ServiceAccount.roles", "service"),
    ("Session.absolute_expire_time", "2026-08-02T12:30:00Z"),
    ("Session.end_reason", ""),
    ("Session.expire_time", "2026-05-11T13:00:00Z"),
    ("Session.last_use_time", "2026-05-04T13:10:00Z"),
    ("SetPasswordResponse.password_expire_time", "2026-05-11T12:30:00Z"),
    ("SigningKey.activate_time", "2026-05-04T13:30:00Z"),
    ("SigningKey.state", "STATE_ACTIVE"),
];

/// Flags that are true in examples.
const TRUE: &[&str] = &["is_active", "is_current", "is_declared", "is_ranked", "allowed"];

const NUMBERS: &[(&str, i64)] = &[
    ("access_expires_in", 1800),
    ("attempts", 1),
    ("cell", 4),
    ("count", 2),
    ("draws", 1),
    ("expected_version", 2),
    ("games_needed", 0),
    ("losses", 1),
    ("overlap_seconds", 86_400),
    ("rank", 1),
    ("recovery_codes_left", 10),
    ("refresh_expires_in", 604_800),
    ("session_count", 2),
    ("typed_tries", 0),
    ("version", 3),
    ("wins", 5),
];

const TEXTS: &[(&str, &str)] = &[
    ("access_token", ACCESS_TOKEN),
    ("acr", "1"),
    ("action", "create"),
    ("actor_client_id", "first-party"),
    ("actor_login", "ann"),
    ("actor_user_id", ANN),
    ("alg", "EdDSA"),
    ("auth_methods", "pwd"),
    ("board", "....X...."),
    (
        "challenge_token",
        "c1.0190b6e8-3c40-7e51-9f62-0a74bf85c196.YW5kLWEtbWFjLW9mLTMyLWJ5dGVzLWluLWJhc2U2NHVybA",
    ),
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
    ("display_name", "Phone"),
    ("email", "user@example.com"),
    ("email_code", "K7PX-3NQA"),
    ("event_id", "0190b6e6-7a10-7b22-8c33-9d44ae55bf66"),
    ("factor_id", "0190b6e8-4d51-7f62-8a73-1b85ca96d207"),
    ("first_name", "Ann"),
    ("game_id", "0190b6e7-2b30-7c41-8d52-9e63af74b085"),
    (
        "guest_credential",
        "g1.0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42.c2VjcmV0LW9mLWEtZ3Vlc3QtaW4tMjU2LWJpdHMtMDA",
    ),
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
    ("methods", "totp"),
    ("middle_name", ""),
    ("name", "Games"),
    ("new_password", "nine purple elephants"),
    ("new_password_confirmation", "nine purple elephants"),
    ("next_page_token", ""),
    ("o_login", "bob"),
    ("o_user_id", BOB),
    ("opponent_user_id", BOB),
    (
        "otpauth_uri",
        "otpauth://totp/games.example:ann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=games.example",
    ),
    ("owner", "game-service"),
    ("password", "correct horse battery"),
    ("password_confirmation", "correct horse battery"),
    ("peer_address", "203.0.113.7"),
    ("permission", "games:create"),
    ("permissions", "games:create"),
    ("purpose", "password_reset"),
    ("recipient", "user@example.com"),
    ("recovery_code", "K7PX-3NQA-9T2W-HJ4C"),
    ("recovery_codes", "K7PX-3NQA-9T2W-HJ4C"),
    ("refresh_token", REFRESH_TOKEN),
    ("request_id", "5f0c6c1e-8f4b-4c27-9d0e-3a1b2c4d5e6f"),
    ("resource", "games"),
    ("role", "moderator"),
    ("roles", "player"),
    ("secret", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"),
    ("session_id", "0190b6e4-a0b1-7c55-b1d2-3e4f5a6b7c8d"),
    ("subject_login", "bob"),
    ("subject_user_id", BOB),
    ("target_id", BOB),
    ("target_type", "user"),
    ("token", REFRESH_TOKEN),
    ("token_type", "Bearer"),
    ("totp_code", "492039"),
    ("turn_user_id", BOB),
    ("use", "sig"),
    ("user_agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"),
    ("user_id", ANN),
    ("x", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
    ("x_login", "ann"),
    ("x_user_id", ANN),
];
