//! The program `game-service`. Its command line is in the library.

use std::{env, process::ExitCode};

use base::program;
use game_service::cli::Cli;

fn main() -> ExitCode {
    program::run(env::args_os(), Cli::run)
}
