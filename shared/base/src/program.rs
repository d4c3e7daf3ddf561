//! How a program reads its settings and how it ends.
//!
//! Settings are clap options that can also come from environment variables, so `--help` is the
//! reference. A bad setting ends the program with exit code 64 (`EX_USAGE` of sysexits.h), any
//! other failure with 1.

use std::{env, error::Error as _, ffi::OsString, num::ParseIntError, process::ExitCode, time::Duration};

use clap::{
    Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{StartError, descriptors::raise_descriptor_limit, telemetry};

/// Time that blocking threads get to finish at exit.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Exit code `EX_USAGE`.
const USAGE: u8 = 64;

/// Reads the settings. An empty environment variable counts as unset, because deployment templates
/// leave a variable empty if it has no value.
fn parse<P: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<P, clap::Error> {
    let mut command = without_empty_variables(P::command());
    let matches = command.try_get_matches_from_mut(arguments);
    let mut matches = matches.map_err(|error| {
        // Arguments of a subcommand that was not called have no text before that.
        command.build();
        with_range(error, &command)
    })?;
    P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Says what a number must be, in place of clap's words about its parser: "invalid digit found in
/// string" or "59 is not in 60..=86400". Returns other errors as they are.
fn with_range(error: clap::Error, command: &clap::Command) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (argument, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let Some(source) = error.source() else { return error };
    let is_out_of_range = source.to_string().starts_with(&format!("{value} is not in "));
    if !source.is::<ParseIntError>() && !is_out_of_range {
        return error;
    }
    let range = match help_of(command, argument).as_deref().and_then(range_in) {
        Some((least, greatest)) => format!(" from {least} to {greatest}"),
        None if is_out_of_range => return error,
        None => String::new(),
    };
    let message = format!("invalid value '{value}' for '{argument}': must be a whole number{range}");
    clap::Error::raw(
        ErrorKind::ValueValidation,
        format!("{message}\n\nFor more information, try '--help'.\n"),
    )
}

/// Returns the help text of an argument of the command or of a subcommand.
fn help_of(command: &clap::Command, argument: &str) -> Option<String> {
    let own = command.get_arguments().find(|each| each.to_string() == argument);
    let help = own.and_then(clap::Arg::get_help).map(ToString::to_string);
    help.or_else(|| command.get_subcommands().find_map(|each| help_of(each, argument)))
}

/// Finds the range in the help text of a number, such as `[0 to 1000000]`.
fn range_in(help: &str) -> Option<(&str, &str)> {
    let mut brackets = help
        .split('[')
        .skip(1)
        .filter_map(|rest| rest.split_once(']')?.0.split_once(" to "));
    brackets.find(|(least, greatest)| [least, greatest].iter().all(|end| end.parse::<i64>().is_ok()))
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

#[cfg(test)]
mod tests {
    use clap::Subcommand;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Debug, Subcommand)]
    enum Command {
        Serve {
            /// Calls per minute [0 to 100]. 0 means no limit [default: 4 to 8 per core]
            #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
            rate: Option<u32>,
            /// Number without a range.
            #[arg(long, value_name = "N")]
            seed: Option<u64>,
            /// Whether to do so.
            #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
            open: Option<bool>,
        },
    }

    #[test]
    fn an_error_about_a_number_says_what_it_must_be() {
        for (arguments, words) in [
            (
                ["--rate", "x"],
                "'x' for '--rate <N>': must be a whole number from 0 to 100\n",
            ),
            (
                ["--rate", "101"],
                "'101' for '--rate <N>': must be a whole number from 0 to 100\n",
            ),
            (
                ["--rate", "99999999999999999999"],
                "must be a whole number from 0 to 100\n",
            ),
            (["--seed", "1.5"], "'1.5' for '--seed <N>': must be a whole number\n"),
            (["--open", "x"], "[possible values: true, false]"),
        ] {
            let arguments = ["program", "serve"].into_iter().chain(arguments).map(OsString::from);
            let error = parse::<Program>(arguments).expect_err(words).to_string();
            assert!(error.contains(words) && error.contains("--help"), "{error}");
            assert!(!error.contains("digit") && !error.contains("..="), "{error}");
        }
    }
}
