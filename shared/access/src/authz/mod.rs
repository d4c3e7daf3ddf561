//! Authentication and authorization of incoming calls.
//!
//! Authentication is an interceptor for the whole server ([`Authenticate`]). It does not know which
//! RPC is called, so it refuses nothing and only adds a [`Caller`] to the request. [`PolicyLayer`],
//! inside it, knows the RPC, and decides by the policy that the RPC declares in its .proto
//! (`authz/v1/options.proto`). An RPC without a policy is refused.

mod caller;
mod layer;
mod stream_caller;

pub use caller::{Authenticate, Caller, principal, step_up_required};
pub use layer::{INFRASTRUCTURE, PolicyLayer, PolicyService, audience_required, is_infrastructure, permission_denied};
pub use stream_caller::StreamCaller;
