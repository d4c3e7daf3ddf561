//! Access tokens.

mod audience;
pub(crate) mod step_up;
