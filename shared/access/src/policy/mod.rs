//! Access policies that RPCs declare in their .proto (`authz/v1/options.proto`), and the
//! permissions that each role holds.

mod grants;
mod guest;
mod policies;
mod step_up;

pub use self::{
    grants::{Grants, SUPERUSER},
    guest::{GUEST, GUEST_LOGIN_ALPHABET, GUEST_LOGIN_PREFIX, GUEST_LOGIN_RANDOM_LEN, is_guest_login},
    policies::{Permission, Policies, Policy, PolicyError},
    step_up::StepUp,
};
