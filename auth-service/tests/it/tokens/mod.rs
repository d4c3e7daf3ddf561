//! Access tokens.

mod audience;
