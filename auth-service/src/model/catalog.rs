//! The catalogue of resources, actions, permissions and roles.

use base::clock::Timestamp;

use crate::ids::{ActionId, PermissionId, ResourceId, RoleId};

/// Something that permissions protect.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) id: ResourceId,
    pub(crate) code_name: String,
    pub(crate) name: String,
    pub(crate) description: String,
    /// Name of the service that declared the resource, if any.
    pub(crate) owner: Option<String>,
    pub(crate) create_time: Timestamp,
}

/// Something that can be done to a resource.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub(crate) id: ActionId,
    pub(crate) code_name: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) create_time: Timestamp,
}

/// A set of permissions that users can have.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) id: RoleId,
    pub(crate) code_name: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) create_time: Timestamp,
}

/// Permission to do one action to one resource.
#[derive(Clone, Debug)]
pub(crate) struct Permission {
    pub(crate) id: PermissionId,
    pub(crate) resource_id: ResourceId,
    pub(crate) action_id: ActionId,
    /// Name, in the form `resource:action`.
    pub(crate) name: String,
    pub(crate) description: String,
    /// Whether a service has declared the permission.
    pub(crate) is_declared: bool,
    pub(crate) create_time: Timestamp,
}

/// Names of a new resource, action or role. The code name is for policies, the name for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryNames {
    pub(crate) code_name: String,
    pub(crate) name: String,
    pub(crate) description: String,
}
