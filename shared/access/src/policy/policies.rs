//! Policies that the RPCs of a service declare, read from its descriptor set.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use ::proto::authz::v1 as proto;
use prost_reflect::{DescriptorPool, MethodDescriptor, Value};

use super::StepUp;

const EXTENSION: &str = "authz.v1.policy";
const HTTP_RULE: &str = "google.api.http";
const UNNAMED: &str = "a permission needs a resource and an action";
/// Prefixes of the actions of RPCs that change nothing.
const READ_PREFIXES: [&str; 2] = ["read_", "check_"];

/// Access policy of an RPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Open to all callers, even without a token.
    Public,
    /// Open to every caller with a valid access token.
    Authenticated,
    /// Open to callers who hold this permission.
    Permission(Permission),
    /// Not declared by the RPC, so every call is refused.
    Missing,
}

/// Permission, written `resource:action`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    /// Resource that is acted on, such as `games`.
    pub resource: String,
    /// Action on the resource, such as `create`.
    pub action: String,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.resource, self.action)
    }
}

/// Policies of the RPCs of a service, by the path of their requests.
#[derive(Clone, Debug)]
pub struct Policies {
    by_path: HashMap<String, Policy>,
    reads: HashSet<String>,
    streams: HashSet<String>,
    exact_audiences: HashSet<String>,
    step_ups: HashMap<String, StepUp>,
    services: Vec<String>,
    conditional: Vec<Permission>,
    default_grants: Vec<(String, Permission)>,
}

/// Policy of an RPC, with its further requirements.
struct Declared {
    policy: Policy,
    wants_exact_audience: bool,
    step_up: Option<StepUp>,
}

/// Error for a descriptor set that cannot be read. The set is embedded in the binary, so this is a
/// fault of the build.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the policies from the descriptor set: {0}")]
pub struct PolicyError(String);

impl Policies {
    /// Reads the policies of every RPC in an encoded `FileDescriptorSet`.
    pub fn from_descriptor_set(encoded: &[u8]) -> Result<Self, PolicyError> {
        let pool = DescriptorPool::decode(encoded).map_err(|error| PolicyError(error.to_string()))?;
        let mut policies = Self {
            by_path: HashMap::new(),
            reads: HashSet::new(),
            streams: HashSet::new(),
            exact_audiences: HashSet::new(),
            step_ups: HashMap::new(),
            services: Vec::new(),
            conditional: Vec::new(),
            default_grants: Vec::new(),
        };
        for service in pool.services() {
            policies.services.push(service.full_name().to_owned());
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                if method.is_server_streaming() {
                    policies.streams.insert(path.clone());
                }
                let declared = policies.declared(&pool, &method)?;
                if declared.wants_exact_audience {
                    policies.exact_audiences.insert(path.clone());
                }
                if let Some(step_up) = declared.step_up {
                    policies.step_ups.insert(path.clone(), step_up);
                }
                let policy = declared.policy;
                if reads(&policy) || is_get(&pool, &method) {
                    policies.reads.insert(path.clone());
                }
                policies.by_path.insert(path, policy);
            }
        }
        Ok(policies)
    }

    /// Returns the policy of the RPC at `/package.Service/Method`, or `None` if there is no such
    /// RPC.
    pub fn get(&self, path: &str) -> Option<&Policy> {
        self.by_path.get(path)
    }

    /// Returns whether the RPC at this path changes nothing: its HTTP method is GET, or its action
    /// is `read` or `check`, or begins with `read_` or `check_`.
    pub fn is_read(&self, path: &str) -> bool {
        self.reads.contains(path)
    }

    /// Returns every permission that any RPC requires, always or conditionally, keyed by name.
    pub fn permissions(&self) -> BTreeMap<String, &Permission> {
        let declared = self.by_path.values().filter_map(|policy| match policy {
            Policy::Permission(permission) => Some(permission),
            _ => None,
        });
        let all = declared.chain(&self.conditional);
        all.map(|permission| (permission.to_string(), permission)).collect()
    }

    /// Returns whether the RPC at this path streams its responses.
    pub fn is_stream(&self, path: &str) -> bool {
        self.streams.contains(path)
    }

    /// Returns whether the RPC at this path accepts only tokens that are for no other service.
    pub fn wants_exact_audience(&self, path: &str) -> bool {
        self.exact_audiences.contains(path)
    }

    /// Returns what the RPC at this path requires of the login of its caller, if anything.
    pub fn step_up(&self, path: &str) -> Option<StepUp> {
        self.step_ups.get(path).copied()
    }

    /// Iterates over the path and policy of every RPC.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Policy)> {
        self.by_path.iter().map(|(path, policy)| (path.as_str(), policy))
    }

    /// Returns the full names of the services.
    pub fn services(&self) -> &[String] {
        &self.services
    }

    /// Iterates over the grants that RPCs declare: each role, and a permission that it holds from
    /// the start.
    pub fn default_grants(&self) -> impl Iterator<Item = (&str, &Permission)> {
        self.default_grants
            .iter()
            .map(|(role, permission)| (role.as_str(), permission))
    }

    /// Reads what the RPC declares.
    fn declared(&mut self, pool: &DescriptorPool, method: &MethodDescriptor) -> Result<Declared, PolicyError> {
        let extension = pool
            .get_extension_by_name(EXTENSION)
            .ok_or_else(|| PolicyError(format!("no extension {EXTENSION}")))?;
        let options = method.options();
        if !options.has_extension(&extension) {
            return Ok(Declared {
                policy: Policy::Missing,
                wants_exact_audience: false,
                step_up: None,
            });
        }
        let bad = |why: &str| PolicyError(format!("{}: {why}", method.full_name()));
        let declared = match options.get_extension(&extension).as_ref() {
            Value::Message(message) => message
                .transcode_to::<proto::Policy>()
                .map_err(|error| bad(&error.to_string()))?,
            _ => return Err(bad("the policy is not a message")),
        };
        for permission in declared.conditional {
            let permission = self.granted(permission).ok_or_else(|| bad(UNNAMED))?;
            self.conditional.push(permission);
        }
        let policy = match declared.rule {
            None => Policy::Missing,
            Some(proto::policy::Rule::Public(_)) => Policy::Public,
            Some(proto::policy::Rule::Authenticated(_)) => Policy::Authenticated,
            Some(proto::policy::Rule::Permission(permission)) => {
                Policy::Permission(self.granted(permission).ok_or_else(|| bad(UNNAMED))?)
            }
        };
        let step_up = declared.step_up.map(|step_up| StepUp::declared(&step_up));
        Ok(Declared {
            policy,
            wants_exact_audience: declared.exact_audience,
            step_up: step_up.transpose().map_err(bad)?,
        })
    }

    /// Records the roles that hold a permission from the start, and returns the permission. Returns
    /// `None` if its resource or action is missing.
    fn granted(&mut self, declared: proto::Permission) -> Option<Permission> {
        if declared.resource.is_empty() || declared.action.is_empty() {
            return None;
        }
        let permission = Permission {
            resource: declared.resource,
            action: declared.action,
        };
        let roles = declared.default_roles.into_iter();
        self.default_grants.extend(roles.map(|role| (role, permission.clone())));
        Some(permission)
    }
}

fn reads(policy: &Policy) -> bool {
    match policy {
        Policy::Permission(Permission { action, .. }) => {
            matches!(action.as_str(), "read" | "check") || READ_PREFIXES.iter().any(|prefix| action.starts_with(prefix))
        }
        _ => false,
    }
}

/// Returns whether the `google.api.http` rule of the RPC is a GET.
fn is_get(pool: &DescriptorPool, method: &MethodDescriptor) -> bool {
    let Some(extension) = pool.get_extension_by_name(HTTP_RULE) else {
        return false;
    };
    let options = method.options();
    match options.get_extension(&extension).as_ref() {
        Value::Message(rule) => rule.has_field_by_name("get"),
        _ => false,
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::proto::{auth, game};

    use super::*;
    use crate::token::Acr;

    #[test]
    fn every_rpc_declares_a_policy() {
        for set in [auth::v1::FILE_DESCRIPTOR_SET, game::v1::FILE_DESCRIPTOR_SET] {
            let policies = Policies::from_descriptor_set(set).expect("readable");
            assert!(!policies.services().is_empty());
            for (path, policy) in policies.iter() {
                assert_ne!(policy, &Policy::Missing, "{path}");
            }
        }
    }

    #[test]
    fn policies_are_read_as_declared() {
        let policies = Policies::from_descriptor_set(game::v1::FILE_DESCRIPTOR_SET).expect("readable");
        let create = Permission {
            resource: "games".into(),
            action: "create".into(),
        };
        assert_eq!(
            policies.get("/game.v1.GameService/CreateGame"),
            Some(&Policy::Permission(create.clone()))
        );
        assert_eq!(policies.get("/game.v1.GameService/Nothing"), None);
        assert!(policies.permissions().contains_key("history:read_all"));
        assert!(policies.default_grants().any(|grant| grant == ("player", &create)));
        let policies = Policies::from_descriptor_set(auth::v1::FILE_DESCRIPTOR_SET).expect("readable");
        assert_eq!(policies.get("/auth.v1.AuthService/Login"), Some(&Policy::Public));
        assert_eq!(
            policies.get("/auth.v1.AccountService/GetMe"),
            Some(&Policy::Authenticated)
        );
    }

    #[test]
    fn the_rpcs_that_require_a_recent_login_say_so() {
        let auth = Policies::from_descriptor_set(auth::v1::FILE_DESCRIPTOR_SET).expect("readable");
        let administration = ["User", "Rbac", "Key", "ServiceAccount"].map(|name| format!("/auth.v1.{name}Service/"));
        for (path, policy) in auth.iter() {
            let is_administration = administration.iter().any(|service| path.starts_with(service));
            // Only services register policies, and they never log in.
            let is_write = !auth.is_read(path) && *policy != Policy::Public && !path.ends_with("/RegisterPolicies");
            let ends = |names: &[&str]| names.iter().any(|name| path.ends_with(name));
            let is_own = ends(&["/DeleteMe", "/ChangeEmail", "/CreateTotpFactor", "/ConfirmTotpFactor"]);
            let needs_two = ends(&["/DeleteSecondFactor", "/RenewRecoveryCodes"]);
            let expected = (is_administration && is_write || is_own || needs_two).then_some(StepUp {
                max_age: Duration::from_mins(15),
                acr: needs_two.then_some(Acr::TwoFactors),
            });
            assert_eq!(auth.step_up(path), expected, "{path}");
        }
    }

    #[test]
    fn server_streaming_rpcs_are_recognized() {
        let policies = Policies::from_descriptor_set(auth::v1::FILE_DESCRIPTOR_SET).expect("readable");
        assert!(policies.is_stream("/auth.v1.AccessFeedService/Watch"));
        assert!(!policies.is_stream("/auth.v1.AccountService/GetMe"));
    }

    #[test]
    fn read_only_rpcs_are_recognized() {
        let auth = Policies::from_descriptor_set(auth::v1::FILE_DESCRIPTOR_SET).expect("readable");
        let game = Policies::from_descriptor_set(game::v1::FILE_DESCRIPTOR_SET).expect("readable");
        for path in [
            "/auth.v1.AccountService/GetMe",
            "/auth.v1.AccessFeedService/Watch",
            "/auth.v1.RbacService/CheckPermission",
            "/auth.v1.AuthService/IntrospectToken",
        ] {
            assert!(auth.is_read(path), "{path}");
        }
        for path in [
            "/auth.v1.AccountService/UpdateMe",
            "/auth.v1.RbacService/RegisterPolicies",
            "/auth.v1.UserService/DeactivateUser",
        ] {
            assert!(!auth.is_read(path) && auth.get(path).is_some(), "{path}");
        }
        for path in [
            "/game.v1.GameService/GetGame",
            "/game.v1.HistoryService/ListFinishedGames",
            "/game.v1.LeaderboardService/GetLeaderboard",
        ] {
            assert!(game.is_read(path), "{path}");
        }
        for path in ["/game.v1.GameService/CreateGame", "/game.v1.GameService/MakeMove"] {
            assert!(!game.is_read(path) && game.get(path).is_some(), "{path}");
        }
    }
}
