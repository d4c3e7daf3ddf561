//! How a program reads its settings and how it ends.
//!
//! Settings are clap options that can also come from environment variables, so `--help` is the
//! reference. A bad setting ends the program with exit code 64 (`EX_USAGE` of sysexits.h), any
//! other failure with 1.

use std::{env, ffi::OsString, process::ExitCode, time::Duration};

use clap::Parser;

use crate::{StartError, descriptors::raise_descriptor_limit, telemetry};

/// Time that blocking threads get to finish at exit.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Exit code `EX_USAGE`.
const USAGE: u8 = 64;

/// Reads the settings. An empty environment variable counts as unset, because deployment templates
/// leave a variable empty if it has no value.
fn parse<P: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<P, clap::Error> {
    let mut command = without_empty_variables(P::command());
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    command.mut_subcommands(without_empty_variables).mut_args(|argument| {
        #[expect(
            clippy::disallowed_methods,
            reason = "clap tells an empty variable from a missing one, and deployments do not"
        )]
        let is_empty = argument
            .get_env()
            .and_then(env::var_os)
            .is_some_and(|value| value.is_empty());
        if is_empty { argument.env(None) } else { argument }
    })
}

/// Runs the body of a `main`: reads the settings, calls `main`, and turns the outcome into an exit
/// code. A failure also prints one line to standard error.
pub fn run<P: Parser>(
    arguments: impl IntoIterator<Item = OsString>,
    main: impl AsyncFnOnce(P) -> Result<(), StartError>,
) -> ExitCode {
    let settings = match parse::<P>(arguments) {
        Ok(settings) => settings,
        Err(error) => {
            let wrong = error.use_stderr();
            // A failed write is ignored: the terminal is gone, so nobody can read the message.
            let _ = error.print();
            return if wrong {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(StartError::failed).and_then(|runtime| {
        let outcome = runtime.block_on(async {
            let outcome = main(settings).await;
            telemetry::traces::flush().await;
            outcome
        });
        // Blocking work that nobody waits for any more, such as a password hash, must not delay the
        // exit.
        runtime.shutdown_timeout(LAST_WAIT);
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "the one line that a person sees, whatever the log settings"
            )]
            {
                eprintln!("error: {error}");
            }
            match error {
                StartError::Setting(_) => ExitCode::from(USAGE),
                StartError::Failed(_) | StartError::Outage(_) => ExitCode::FAILURE,
                StartError::Code(code, _) => ExitCode::from(code),
            }
        }
    }
}
