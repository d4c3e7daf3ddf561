//! How a program reads its settings and how it ends.
//!
//! Settings are clap options that also read the environment, so `--help` is the reference. A bad
//! setting ends the program with exit code 64 (`EX_USAGE` of sysexits.h), everything else that goes
//! wrong with 1.

use std::{env, ffi::OsString, process::ExitCode, time::Duration};

use clap::Parser;

use crate::{StartError, descriptors::raise_descriptor_limit, telemetry};

/// For threads that block when everything else has ended.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// `EX_USAGE`.
const USAGE: u8 = 64;

/// Reads the settings. An environment variable that is empty counts as one that is not set, as
/// templates of deployments leave it where there is nothing to say.
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

/// The body of a `main`: reads the settings, runs, and turns the outcome into an exit code, with
/// one line on standard error where it is not good.
pub fn run<P: Parser>(
    arguments: impl IntoIterator<Item = OsString>,
    main: impl AsyncFnOnce(P) -> Result<(), StartError>,
) -> ExitCode {
    let settings = match parse::<P>(arguments) {
        Ok(settings) => settings,
        Err(error) => {
            let wrong = error.use_stderr();
            // If the terminal is gone, there is no one to tell.
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
        // What still blocks a thread, such as a hash that nobody waits for any more, does not hold
        // up the end.
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
