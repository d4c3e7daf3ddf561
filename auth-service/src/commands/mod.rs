//! What the program does besides serving: one file a command.

mod after_restore;
mod create_admin;

pub use self::{after_restore::AfterRestore, create_admin::CreateAdmin};
