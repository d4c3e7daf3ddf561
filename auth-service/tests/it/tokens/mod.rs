//! Access tokens.

mod audience;
mod step_up;
