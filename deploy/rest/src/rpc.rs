//! Options of an RPC: its HTTP routes and its access policy.

use access::policy::{Policies, Policy};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};

const HTTP_RULE: &str = "google.api.http";
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// An RPC.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// Descriptor in the protos.
    pub method: MethodDescriptor,
    /// HTTP routes to the RPC, the primary one first. Empty if outside clients may not call it.
    pub http: Vec<HttpRule>,
    /// Access policy.
    pub(crate) policy: Policy,
}

/// A `google.api.http` rule.
#[derive(Clone, Debug)]
pub struct HttpRule {
    /// HTTP method in lower case, such as `post`.
    pub method: &'static str,
    /// Path template, such as `/v1/games/{game_id}:move`.
    pub path: String,
    /// Field that is the body, `*` for all fields that are not in the path, or empty for no body.
    pub body: String,
}

impl Rpc {
    pub(crate) fn of(pool: &DescriptorPool, policies: &Policies, method: &MethodDescriptor) -> Result<Self, String> {
        let rules = http_rule(pool, method).map(|rule| with_additional_bindings(&rule));
        let rules = rules.unwrap_or_default();
        let http: Option<Vec<HttpRule>> = rules.iter().map(HttpRule::of).collect();
        let http = http.ok_or_else(|| format!("{}: no HTTP method", method.full_name()))?;
        let mut rpc = Self {
            method: method.clone(),
            http,
            policy: Policy::Missing,
        };
        let policy = policies.get(&rpc.grpc_path());
        rpc.policy = policy.cloned().unwrap_or(Policy::Missing);
        Ok(rpc)
    }

    /// Returns `/package.Service/Method`, the path of the RPC's gRPC requests.
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

    /// Returns the fields that are in the path, such as `game_id` or `role.code_name`.
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

/// Returns the rule itself, followed by its additional bindings.
fn with_additional_bindings(rule: &DynamicMessage) -> Vec<DynamicMessage> {
    let additional = rule.get_field_by_name("additional_bindings");
    let additional = additional.as_ref().and_then(|bindings| bindings.as_list());
    let additional = additional.unwrap_or_default().iter();
    let additional = additional.filter_map(|binding| binding.as_message());
    std::iter::once(rule).chain(additional).cloned().collect()
}

fn text(rule: &DynamicMessage, field: &str) -> String {
    let value = rule.get_field_by_name(field);
    value
        .and_then(|value| Some(value.as_str()?.to_owned()))
        .unwrap_or_default()
}
