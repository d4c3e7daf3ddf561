//! Access policies that RPCs declare in their .proto (`authz/v1/options.proto`), and the
//! permissions that each role holds.

mod grants;
mod policies;

pub use self::{
    grants::{Grants, SUPERUSER},
    policies::{Permission, Policies, Policy, PolicyError},
};
