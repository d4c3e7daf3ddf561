//! Rules about which module may use which. The rules are data: each has a reason, and an example of
//! code that breaks it.

mod circles;
mod names;
mod rows;

use std::fs;

use self::names::{PathUse, named_in, sources, workspace};

/// A rule about paths that some files must not name.
struct Rule {
    /// Whether the rule applies to the file at this path in the workspace.
    holds_in: fn(&str) -> bool,
    /// Whether the rule forbids naming this path.
    forbids: fn(&[&str]) -> bool,
    because: &'static str,
    /// A file to which the rule applies, and a line that it forbids there.
    broken_by: (&'static str, &'static str),
}

const RULES: &[Rule] = &[
    Rule {
        holds_in: |file| layer(file, "store"),
        forbids: |path| matches!(path, ["crate", "domain" | "grpc", ..]),
        because: "grpc -> domain -> store: SQL does not depend on rules or requests",
        broken_by: ("auth-service/src/store/user.rs", "use crate::{config, domain::Login};"),
    },
    Rule {
        holds_in: |file| layer(file, "domain"),
        forbids: |path| matches!(path, ["crate", "grpc", ..]),
        because: "grpc -> domain -> store: rules do not depend on requests",
        broken_by: (
            "game-service/src/domain/play.rs",
            "fn f() { super::super::grpc::convert(1) }",
        ),
    },
    Rule {
        holds_in: |file| layer(file, "grpc"),
        forbids: |path| matches!(path, ["crate", "store", ..]),
        because: "grpc -> domain -> store: a request reaches the database only through the rules",
        broken_by: (
            "auth-service/src/grpc/auth.rs",
            "mod inner { use super::super::super::store::user_by_id; }",
        ),
    },
    Rule {
        holds_in: |file| layer(file, "model"),
        forbids: |path| {
            matches!(path, ["crate", "store" | "domain" | "grpc", ..])
                || matches!(path, ["db", name, ..] if *name != "text_enum")
        },
        because: "the model is plain values and rules about a single value: no query, no transaction, no request",
        broken_by: ("auth-service/src/model/user.rs", "use crate::store::schema::users;"),
    },
    Rule {
        holds_in: |file| layer(file, "rules"),
        forbids: |path| match path {
            ["std" | "core" | "alloc", ..] | ["crate", "rules", ..] => false,
            // A path whose first name of several is in lower case begins with a module or a crate.
            [first, _, ..] => first.starts_with(char::is_lowercase) && !PRIMITIVES.contains(first),
            _ => false,
        },
        because: "the rules of the game are pure: values in, values out",
        broken_by: ("game-service/src/rules/computer.rs", "use rand::random_range;"),
    },
    Rule {
        holds_in: |file| service(file) && !layer(file, "grpc") && !file.ends_with("/src/lib.rs"),
        forbids: |path| path[0].starts_with("tonic"),
        because: "only grpc/ and shared/ turn a domain error into a Status",
        broken_by: (
            "game-service/src/domain/error.rs",
            "impl From<Error> for tonic::Status {}",
        ),
    },
    Rule {
        holds_in: |file| service(file) && file.ends_with("/src/lib.rs"),
        forbids: |path| path[0].starts_with("tonic") && !path.starts_with(&["tonic", "service", "Routes"]),
        because: "lib.rs mounts the services, and leaves the rest to server",
        broken_by: (
            "auth-service/src/lib.rs",
            "use tonic::{service::Routes, transport::Server};",
        ),
    },
    Rule {
        holds_in: |file| {
            let elsewhere = [
                // The baseline of the benchmarks uses nothing of ours.
                "deploy/bench/src/",
                "shared/db/src/",
                "shared/base/src/sql_types.rs",
                "shared/base/src/ids",
                "shared/base/src/clock/timestamp",
            ];
            !layer(file, "store") && !elsewhere.iter().any(|place| file.starts_with(place))
        },
        forbids: |path| path[0].starts_with("diesel"),
        because: "a query is written in store/, for both databases at once",
        broken_by: (
            "auth-service/src/domain/users/login.rs",
            "query!(conn, |c| diesel::sql_query(sql).execute(c))",
        ),
    },
    Rule {
        holds_in: |file| file.ends_with("/src/main.rs"),
        forbids: |path| matches!(path, ["std", "env", name, ..] if *name != "args_os"),
        because: "a setting is a clap option, so that --help lists it; main only passes the arguments on",
        broken_by: ("auth-service/src/main.rs", "use std::env; fn f() { env::var(NAME); }"),
    },
    Rule {
        holds_in: |file| file == "shared/base/src/program.rs",
        forbids: |path| matches!(path, ["std", "env", name, ..] if *name != "var_os"),
        because: "clap reads the environment; this file only checks whether a variable is empty",
        broken_by: ("shared/base/src/program.rs", "use std::env; fn f() { env::var(NAME); }"),
    },
    Rule {
        holds_in: |file| {
            !["/src/main.rs", "/build.rs"].iter().any(|name| file.ends_with(name))
                && !file.contains("/src/testing/")
                && file != "shared/base/src/program.rs"
        },
        forbids: |path| matches!(path, ["std", "env", ..]),
        because: "arguments and environment reach a program only through main",
        broken_by: ("game-service/src/lib.rs", "use std::{env, fs};"),
    },
    Rule {
        holds_in: |file| file != "shared/base/src/clock.rs",
        forbids: |path| path.iter().any(|name| ["SystemTime", "UNIX_EPOCH"].contains(name)),
        because: "the time comes from base::clock, so that a test can control it",
        broken_by: (
            "auth-service/src/domain/sessions/lifecycle.rs",
            "let now = std::time::SystemTime::now();",
        ),
    },
    Rule {
        holds_in: |file| {
            !file.starts_with("auth-service/") && !file.contains("/src/testing/") && !file.contains("/tests/")
        },
        forbids: |path| {
            matches!(
                path,
                ["jsonwebtoken", "encode", ..] | ["jsonwebtoken", "crypto", "sign", ..]
            ) || path
                .iter()
                .any(|name| *name == "EncodingKey" || name.ends_with("KeyPair"))
        },
        because: "only auth-service signs; code that verifies must not be able to sign",
        broken_by: (
            "shared/access/src/token/verifier.rs",
            "use aws_lc_rs::{digest, signature::{self, Ed25519KeyPair}};",
        ),
    },
];

impl Rule {
    fn is_broken_by(&self, named: &PathUse) -> bool {
        let path: Vec<&str> = named.path.iter().map(String::as_str).collect();
        (self.forbids)(&path)
    }
}

const PRIMITIVES: [&str; 17] = [
    "bool", "char", "f32", "f64", "i128", "i16", "i32", "i64", "i8", "isize", "str", "u128", "u16", "u32", "u64", "u8",
    "usize",
];

fn service(file: &str) -> bool {
    file.starts_with("auth-service/src/") || file.starts_with("game-service/src/")
}

/// Returns whether the file belongs to this layer of a service.
fn layer(file: &str, name: &str) -> bool {
    let inside = file.split_once("/src/").map_or("", |(_, inside)| inside);
    let rest = inside.strip_prefix(name);
    service(file) && rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

#[test]
fn no_module_breaks_the_layering_rules() {
    let mut broken = Vec::new();
    let mut files = 0;
    for file in sources() {
        let text = fs::read_to_string(workspace().join(&file)).expect("a file");
        let named = named_in(&file, &text);
        assert!(!named.is_empty(), "{file} names nothing");
        for rule in RULES.iter().filter(|rule| (rule.holds_in)(&file)) {
            let bad = named.iter().filter(|named| rule.is_broken_by(named));
            broken.extend(bad.map(|named| format!("{file}:{named}: {}", rule.because)));
        }
        files += 1;
    }
    assert!(files > 80, "only {files} files were found");
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_layering_rule_finds_a_violation() {
    for rule in RULES {
        let (file, line) = rule.broken_by;
        assert!((rule.holds_in)(file), "{file}: {}", rule.because);
        assert!(workspace().join(file).exists(), "{file}");
        let named = named_in(file, &format!("\n{line}"));
        let bad: Vec<_> = named.iter().filter(|named| rule.is_broken_by(named)).collect();
        assert!(
            bad.iter().any(|named| named.line == 2),
            "{line} in {file}: {}",
            rule.because
        );
    }
}

/// Crates of the workspace that each crate in `shared/` depends on. Its tests may depend on the
/// same crates, including their testing kits.
const SHARED: [(&str, &[&str]); 7] = [
    ("access", &["base", "proto"]),
    ("base", &["proto"]),
    ("db", &["base", "proto", "test-macros"]),
    ("proto", &[]),
    ("server", &["access", "base", "proto"]),
    ("test-macros", &[]),
    ("testing", &["access", "base", "db", "server"]),
];

#[test]
fn no_crate_depends_on_one_above_it() {
    let manifest = |member: &str| {
        let path = workspace().join(member).join("Cargo.toml");
        fs::read_to_string(path).expect("a manifest")
    };
    let folders = fs::read_dir(workspace().join("shared")).expect("shared/");
    let mut shared: Vec<String> = folders
        .map(|folder| folder.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    shared.sort();
    assert_eq!(shared, SHARED.map(|(name, _)| name));
    let services = ["auth-service", "game-service"];
    let members = members();
    let ours = |member: &str, tables: &[&str]| {
        let mut names = dependencies(&manifest(member), tables);
        names.retain(|name| members.contains(name));
        names.dedup();
        names
    };
    for (name, below) in SHARED {
        let member = format!("shared/{name}");
        assert_eq!(
            ours(&member, &["dependencies", "build-dependencies"]),
            below,
            "{member}"
        );
        // A crate depends on itself for its tests, to enable its own testing kit.
        let mut tests = ours(&member, &["dev-dependencies"]);
        tests.retain(|other| other != name);
        assert!(
            tests.iter().all(|other| below.contains(&other.as_str())),
            "{member}: {tests:?}"
        );
    }
    for service in services {
        let all = ours(service, &["dependencies", "build-dependencies", "dev-dependencies"]);
        assert!(all.iter().all(|name| shared.contains(name)), "{service}: {all:?}");
        assert!(
            !ours(service, &["dependencies"]).contains(&"testing".to_owned()),
            "{service}"
        );
    }
    let table =
        "[dependencies]\nbase.workspace = true\n[dev-dependencies]\ntokio = \"1\"\n[dependencies.auth-service]\n";
    assert_eq!(dependencies(table, &["dependencies"]), ["auth-service", "base"]);
    assert_eq!(dependencies(table, &["dev-dependencies"]), ["tokio"]);
}

/// Returns the names of all crates of the workspace, sorted.
fn members() -> Vec<String> {
    let root = fs::read_to_string(workspace().join("Cargo.toml")).expect("a manifest");
    let (_, listed) = root.split_once("members = [").expect("the members");
    let (listed, _) = listed.split_once(']').expect("their end");
    let listed = listed
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|member| *member != "shared/*");
    let shared = SHARED.map(|(name, _)| name).into_iter();
    let mut members: Vec<String> = listed
        .map(|member| member.rsplit('/').next().unwrap_or(member))
        .chain(shared)
        .map(str::to_owned)
        .collect();
    members.sort();
    assert!(members.len() > 10, "{members:?}");
    members
}

/// Returns the names in these dependency tables of a manifest, sorted.
fn dependencies(manifest: &str, tables: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            // `target.<platform>.dependencies` is a table of dependencies as well.
            let table = table
                .rsplit_once('\'')
                .map_or(table, |(_, table)| table.trim_start_matches(['.', '"']));
            inside = tables.contains(&table);
            if let Some((of, name)) = table.split_once('.')
                && tables.contains(&of)
            {
                names.push(name.to_owned());
            }
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            names.push(line[..end].to_owned());
        }
    }
    names.sort();
    names
}
