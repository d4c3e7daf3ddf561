//! What the options of an RPC say: how HTTP reaches it, and who may call it.

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use shared::authz::{Policies, Policy};

const HTTP_RULE: &str = "google.api.http";
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// An RPC.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// What the protos say of it.
    pub method: MethodDescriptor,
    /// How HTTP reaches it; `None` where no client outside may call it.
    pub http: Option<HttpRule>,
    /// Who may call it.
    pub(crate) policy: Policy,
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

impl Rpc {
    pub(crate) fn of(pool: &DescriptorPool, policies: &Policies, method: &MethodDescriptor) -> Result<Self, String> {
        let http = match http_rule(pool, method) {
            Some(rule) => {
                let rule = HttpRule::of(&rule);
                Some(rule.ok_or_else(|| format!("{}: no HTTP method", method.full_name()))?)
            }
            None => None,
        };
        let mut rpc = Self {
            method: method.clone(),
            http,
            policy: Policy::Missing,
        };
        let policy = policies.get(&rpc.grpc_path());
        rpc.policy = policy.cloned().unwrap_or(Policy::Missing);
        Ok(rpc)
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
        let parts = self.path.split('{').skip(1);
        parts.filter_map(|part| Some(part.split_once('}')?.0)).collect()
    }
}

fn http_rule(pool: &DescriptorPool, method: &MethodDescriptor) -> Option<DynamicMessage> {
    let extension = pool.get_extension_by_name(HTTP_RULE)?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let value = options.get_extension(&extension);
    Some(value.as_message()?.clone())
}

fn text(rule: &DynamicMessage, field: &str) -> String {
    let value = rule.get_field_by_name(field);
    value
        .and_then(|value| Some(value.as_str()?.to_owned()))
        .unwrap_or_default()
}
