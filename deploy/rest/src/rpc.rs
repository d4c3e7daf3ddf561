//! What the options of an RPC say: how HTTP reaches it, and who may call it.

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage as _, Value};

const HTTP_RULE: &str = "google.api.http";
const POLICY: &str = "authz.v1.policy";
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// An RPC.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// What the protos say of it.
    pub method: MethodDescriptor,
    /// How HTTP reaches it; `None` where no client outside may call it.
    pub http: Option<HttpRule>,
    /// Who may call it.
    pub(crate) caller: CallerRule,
}

/// A `google.api.http` rule.
#[derive(Clone, Debug)]
pub struct HttpRule {
    /// In lower case.
    pub method: &'static str,
    /// Such as `/v1/games/{game_id}:move`.
    pub path: String,
    /// The field that is the body, `*` for whatever the path has not, or empty for none.
    pub body: String,
}

/// An `authz.v1.policy`.
#[derive(Clone, Debug)]
pub(crate) enum CallerRule {
    Public,
    Authenticated,
    Permission { name: String, default_roles: Vec<String> },
}

impl Rpc {
    pub(crate) fn of(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<Self, String> {
        let bad = |why: &str| format!("{}: {why}", method.full_name());
        let http = match option(pool, method, HTTP_RULE) {
            Some(rule) => Some(HttpRule::of(&rule).ok_or_else(|| bad("no HTTP method"))?),
            None => None,
        };
        let policy = option(pool, method, POLICY).ok_or_else(|| bad("no policy"))?;
        Ok(Self {
            method: method.clone(),
            http,
            caller: CallerRule::of(&policy),
        })
    }

    /// `/package.Service/Method`, which is what every request for it is routed by.
    pub fn grpc_path(&self) -> String {
        let service = self.method.parent_service();
        format!("/{}/{}", service.full_name(), self.method.name())
    }
}

impl HttpRule {
    fn of(rule: &DynamicMessage) -> Option<Self> {
        let method = METHODS.into_iter().find(|method| rule.has_field_by_name(method))?;
        Some(Self {
            method,
            path: text(rule, method),
            body: text(rule, "body"),
        })
    }

    /// Paths of the fields that are in the path, such as `game_id` or `role.code_name`.
    pub fn path_fields(&self) -> Vec<&str> {
        let mut parts = self.path.split('{').skip(1);
        parts
            .by_ref()
            .filter_map(|part| Some(part.split_once('}')?.0))
            .collect()
    }
}

impl CallerRule {
    fn of(policy: &DynamicMessage) -> Self {
        if policy.has_field_by_name("public") {
            return Self::Public;
        }
        match policy.get_field_by_name("permission").as_deref() {
            Some(Value::Message(permission)) if policy.has_field_by_name("permission") => Self::Permission {
                name: format!("{}:{}", text(permission, "resource"), text(permission, "action")),
                default_roles: match permission.get_field_by_name("default_roles").as_deref() {
                    Some(Value::List(roles)) => roles
                        .iter()
                        .filter_map(|role| Some(role.as_str()?.to_owned()))
                        .collect(),
                    _ => Vec::new(),
                },
            },
            _ => Self::Authenticated,
        }
    }
}

fn option(pool: &DescriptorPool, method: &MethodDescriptor, name: &str) -> Option<DynamicMessage> {
    let extension = pool.get_extension_by_name(name)?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let value = options.get_extension(&extension);
    Some(value.as_message()?.clone())
}

fn text(message: &DynamicMessage, field: &str) -> String {
    debug_assert!(message.descriptor().get_field_by_name(field).is_some(), "{field}");
    let value = message.get_field_by_name(field);
    value
        .and_then(|value| Some(value.as_str()?.to_owned()))
        .unwrap_or_default()
}
