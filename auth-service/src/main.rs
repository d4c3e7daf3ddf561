//! `auth-service`: its command line is in the library.

use std::{env, process::ExitCode};

use auth_service::cli::Cli;
use base::program;

fn main() -> ExitCode {
    program::run(env::args_os(), Cli::run)
}
