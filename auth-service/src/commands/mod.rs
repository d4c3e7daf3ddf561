//! What the program does besides serving: one file a command.

mod after_restore;
mod create_admin;
mod create_service_account;

pub use self::{after_restore::AfterRestore, create_admin::CreateAdmin, create_service_account::CreateServiceAccount};
