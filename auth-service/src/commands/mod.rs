//! What the program does besides serving: one file a command.

mod create_admin;

pub use self::create_admin::CreateAdmin;
