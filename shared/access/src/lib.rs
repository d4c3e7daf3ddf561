//! Authentication and authorization of incoming calls.
//!
//! From the bottom up: access [tokens](token), the [policies](policy) that RPCs declare and what
//! each role holds, the known revocations and roles ([view]), how they are received ([feed]), and
//! the layers that let a call through or refuse it ([authz]).

pub mod authz;
pub mod feed;
pub mod policy;
pub mod settings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
pub mod view;
