//! Authentication and authorization of incoming calls.
//!
//! From the bottom up: access [tokens](token), the [policies](policy) that RPCs declare and the
//! permissions that each role holds, the [view] of current revocations and roles, the [feed] that
//! keeps the view up to date, and the layers that admit or refuse a call ([authz]).

pub mod authz;
pub mod feed;
pub mod policy;
pub mod settings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
pub mod view;
