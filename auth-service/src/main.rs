//! The `auth-service` program. Its command line is defined in the library.

use std::{env, process::ExitCode};

use auth_service::cli::Cli;
use base::program;

fn main() -> ExitCode {
    program::run(env::args_os(), Cli::run)
}
