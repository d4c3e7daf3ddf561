//! Generates `deploy/docs/settings.md` from the definitions behind `--help`.
//!
//! A setting is listed once, in the section of the programs that share it with the same text.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    fs,
    path::Path,
};

use clap::{Arg, Command, CommandFactory as _};

const HEAD: &str = "\
# Settings

This page is generated from the programs' `--help`. `cargo test -p standalone settings_page` regenerates it, and
fails if it was out of date.

Every setting is a flag and an environment variable; the flag wins. An empty variable counts as not set.
A bad setting ends the program with a line that names it, and exit code 64. Ranges are in brackets.

Secrets are best kept in files. The start fails if such a file is readable by other users or writable by its group; the
error gives the command that corrects its mode. A default of `-` means that there is none.
";

const COMMANDS: &str = "
## Commands

Besides `serve`, which serves gRPC and HTTP until SIGTERM or Ctrl-C, the programs have these commands. Flags listed
above are left out.
";

/// A program whose settings are listed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Program {
    Standalone,
    AuthService,
    GameService,
}

use Program::{AuthService, GameService, Standalone};

/// The sections for settings, each with the programs that share them.
const SECTIONS: [(&str, &[Program]); 7] = [
    ("Only the standalone program", &[Standalone]),
    ("auth-service, and the standalone", &[Standalone, AuthService]),
    ("auth-service as a program of its own", &[AuthService]),
    ("game-service, and the standalone", &[Standalone, GameService]),
    ("game-service as a program of its own", &[GameService]),
    ("Both services as programs of their own", &[AuthService, GameService]),
    ("Every program", &[Standalone, AuthService, GameService]),
];

/// Description of a setting, in Markdown.
#[derive(Clone, PartialEq, Eq)]
struct Setting {
    heading: String,
    flag: String,
    variable: String,
    default: String,
    help: String,
}

impl Setting {
    fn new(arg: &Arg) -> Option<Self> {
        let long = arg.get_long()?;
        let value = arg.get_value_names().unwrap_or_default().join(" ");
        let takes_value = arg.get_action().takes_values();
        let choices: Vec<String> = (arg.get_possible_values().iter())
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let mut help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string)?;
        if takes_value && !choices.is_empty() && value != "BOOL" {
            let _ = write!(help, " [{}]", choices.join(", "));
        }
        // A flag without a value is off unless it is given.
        let defaults = if takes_value { arg.get_default_values() } else { &[] };
        let defaults: Vec<_> = defaults.iter().map(|value| value.to_string_lossy()).collect();
        Some(Self {
            heading: arg.get_help_heading().unwrap_or("General").to_owned(),
            flag: if takes_value && !value.is_empty() {
                format!("`--{long} {value}`")
            } else {
                format!("`--{long}`")
            },
            variable: code(&arg.get_env().map(|name| name.to_string_lossy()).unwrap_or_default()),
            default: code(&defaults.join(",")),
            help: cell(&help),
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            flag,
            variable,
            default,
            help,
            ..
        } = self;
        writeln!(f, "| {flag} | {variable} | {default} | {help} |")
    }
}

/// Formats text as code. Returns a dash for an empty text.
fn code(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        format!("`{}`", cell(text))
    }
}

/// Formats text for one cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

/// Returns the settings that a command shows in its help.
fn settings(command: &Command) -> Vec<Setting> {
    let is_shown = |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    command
        .get_arguments()
        .filter(is_shown)
        .filter_map(Setting::new)
        .collect()
}

fn table<'a>(page: &mut String, settings: impl IntoIterator<Item = &'a Setting>) {
    page.push_str("\n| flag | variable | default | |\n|---|---|---|---|\n");
    for setting in settings {
        let _ = write!(page, "{setting}");
    }
}

/// Returns the commands of the standalone, auth-service and game-service, complete with what clap
/// derives.
fn commands() -> [Command; 3] {
    let commands = [
        super::Cli::command(),
        auth_service::cli::Cli::command(),
        game_service::cli::Cli::command(),
    ];
    commands.map(|mut command| {
        command.build();
        command
    })
}

fn page() -> String {
    let [standalone, auth, game] = commands();
    let serve = |command: &Command| settings(command.find_subcommand("serve").expect("serve"));
    let programs = [
        (Standalone, settings(&standalone)),
        (AuthService, serve(&auth)),
        (GameService, serve(&game)),
    ];
    let mut listed: Vec<(Setting, BTreeSet<Program>)> = Vec::new();
    for setting in programs.iter().flat_map(|(_, settings)| settings) {
        if listed.iter().all(|(known, _)| known != setting) {
            let having = programs.iter().filter(|(_, settings)| settings.contains(setting));
            listed.push((setting.clone(), having.map(|(program, _)| *program).collect()));
        }
    }
    let mut page = HEAD.to_owned();
    for (title, sharing) in SECTIONS {
        let sharing = sharing.iter().copied().collect();
        let of_section = listed.iter().filter(|(_, having)| *having == sharing);
        section(
            &mut page,
            title,
            &of_section.map(|(setting, _)| setting).collect::<Vec<_>>(),
        );
    }
    let listed: Vec<Setting> = listed.into_iter().map(|(setting, _)| setting).collect();
    subcommands(&mut page, &listed, &[&auth, &game]);
    page
}

/// Adds a section with a table for each heading of the help.
fn section(page: &mut String, title: &str, settings: &[&Setting]) {
    if !settings.is_empty() {
        let _ = write!(page, "\n## {title}\n");
    }
    let mut headings: Vec<&str> = Vec::new();
    for setting in settings {
        if !headings.contains(&setting.heading.as_str()) {
            headings.push(&setting.heading);
        }
    }
    for heading in headings {
        let _ = write!(page, "\n**{heading}**\n");
        table(
            page,
            settings.iter().copied().filter(|setting| setting.heading == heading),
        );
    }
}

/// Adds the commands other than `serve`, with the flags that are not `listed` yet. A command that
/// two programs share is described once.
fn subcommands(page: &mut String, listed: &[Setting], programs: &[&Command]) {
    page.push_str(COMMANDS);
    let mut described: Vec<(Vec<String>, String)> = Vec::new();
    for program in programs {
        let commands = program.get_subcommands();
        for command in commands.filter(|command| !["serve", "help"].contains(&command.get_name())) {
            let name = format!("`{} {}`", program.get_name(), command.get_name());
            let mut text = format!("\n{}.\n", command.get_about().expect("a description"));
            let own: Vec<_> = settings(command)
                .into_iter()
                .filter(|setting| !listed.contains(setting))
                .collect();
            if !own.is_empty() {
                table(&mut text, &own);
            }
            match described.iter_mut().find(|(_, known)| *known == text) {
                Some((names, _)) => names.push(name),
                None => described.push((vec![name], text)),
            }
        }
    }
    for (names, text) in described {
        let _ = write!(page, "\n### {}\n{text}", names.join(", "));
    }
}

#[test]
fn settings_page_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    let page = page();
    if fs::read_to_string(&file).is_ok_and(|committed| committed == page) {
        return;
    }
    fs::write(&file, page).expect("written");
    panic!("{} was stale, and has been rewritten: commit it", file.display());
}

#[test]
fn settings_page_lists_every_flag_of_every_program() {
    let (page, commands) = (page(), commands());
    let mut left: Vec<&Command> = commands.iter().collect();
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands());
        for flag in command.get_arguments().filter_map(Arg::get_long) {
            let is_listed = page.contains(&format!("`--{flag}`")) || page.contains(&format!("`--{flag} "));
            assert!(
                is_listed || ["help", "version"].contains(&flag),
                "{}: --{flag}",
                command.get_name()
            );
        }
    }
}
