//! Who may name whom. The rules are data; each comes with its reason and with code that breaks it.
//!
//! A file is read as tokens, so that paths in macros count like any others and comments and strings do not.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What some files may not name.
struct Rule {
    /// Whether it is for the file at this path in the workspace.
    holds_in: fn(&str) -> bool,
    /// Whether it forbids this path.
    forbids: fn(&[&str]) -> bool,
    because: &'static str,
    /// A file that it is for, and a line that it forbids there.
    broken_by: (&'static str, &'static str),
}

const RULES: &[Rule] = &[
    Rule {
        holds_in: |file| layer(file, "store"),
        forbids: |path| matches!(path, ["crate", "domain" | "grpc", ..]),
        because: "grpc -> domain -> store: SQL knows nothing of rules and requests",
        broken_by: ("auth-service/src/store/user.rs", "use crate::{config, domain::Login};"),
    },
    Rule {
        holds_in: |file| layer(file, "domain"),
        forbids: |path| matches!(path, ["crate", "grpc", ..]),
        because: "grpc -> domain -> store: rules know nothing of requests",
        broken_by: (
            "game-service/src/domain/play.rs",
            "fn f() { super::super::grpc::convert(1) }",
        ),
    },
    Rule {
        holds_in: |file| layer(file, "grpc"),
        forbids: |path| matches!(path, ["crate", "store", ..]),
        because: "grpc -> domain -> store: no request reaches the database but through the rules",
        broken_by: (
            "auth-service/src/grpc/auth.rs",
            "mod inner { use super::super::super::store::user_by_id; }",
        ),
    },
    Rule {
        holds_in: |file| layer(file, "rules"),
        forbids: |path| match path {
            ["std" | "core" | "alloc", ..] | ["crate", "rules", ..] => false,
            // What begins with a small letter and is not alone is a module or a crate.
            [first, _, ..] => first.starts_with(char::is_lowercase) && !PRIMITIVES.contains(first),
            _ => false,
        },
        because: "the rules of the game are pure: values in, values out",
        broken_by: ("game-service/src/rules/computer.rs", "use rand::random_range;"),
    },
    Rule {
        holds_in: |file| service(file) && !layer(file, "grpc") && !file.ends_with("/src/lib.rs"),
        forbids: |path| path[0].starts_with("tonic"),
        because: "a Status is made in grpc/ and in shared, out of a domain error",
        broken_by: (
            "game-service/src/domain/error.rs",
            "impl From<Error> for tonic::Status {}",
        ),
    },
    Rule {
        holds_in: |file| service(file) && file.ends_with("/src/lib.rs"),
        forbids: |path| path[0].starts_with("tonic") && !path.starts_with(&["tonic", "service", "Routes"]),
        because: "lib.rs mounts the services, and leaves the rest to shared::server",
        broken_by: (
            "auth-service/src/lib.rs",
            "use tonic::{service::Routes, transport::Server};",
        ),
    },
    Rule {
        holds_in: |file| {
            let elsewhere = [
                // What the services are measured against is without anything of ours.
                "deploy/bench/src/",
                "shared/src/db/",
                "shared/src/ids.rs",
                "shared/src/clock.rs",
                "shared/src/testing/",
            ];
            !layer(file, "store") && !elsewhere.iter().any(|place| file.starts_with(place))
        },
        forbids: |path| path[0].starts_with("diesel"),
        because: "a query is written in store/, for both databases at once",
        broken_by: (
            "auth-service/src/domain/login.rs",
            "query!(conn, |c| diesel::sql_query(sql).execute(c))",
        ),
    },
    Rule {
        holds_in: |file| file.ends_with("/src/main.rs"),
        forbids: |path| matches!(path, ["std", "env", name, ..] if *name != "args_os"),
        because: "a setting is a clap option, so that --help tells of it; main hands the arguments over",
        broken_by: ("auth-service/src/main.rs", "use std::env; fn f() { env::var(NAME); }"),
    },
    Rule {
        holds_in: |file| file == "shared/src/config.rs",
        forbids: |path| matches!(path, ["std", "env", name, ..] if *name != "var_os"),
        because: "clap reads the environment; all that is looked for besides is whether a variable is empty",
        broken_by: ("shared/src/config.rs", "use std::env; fn f() { env::var(NAME); }"),
    },
    Rule {
        holds_in: |file| {
            !["/src/main.rs", "/build.rs"].iter().any(|name| file.ends_with(name))
                && !file.starts_with("shared/src/testing/")
                && file != "shared/src/config.rs"
        },
        forbids: |path| matches!(path, ["std", "env", ..]),
        because: "what a process is given comes in through main",
        broken_by: ("game-service/src/lib.rs", "use std::{env, fs};"),
    },
    Rule {
        holds_in: |file| file != "shared/src/clock.rs",
        forbids: |path| path.iter().any(|name| ["SystemTime", "UNIX_EPOCH"].contains(name)),
        because: "the time comes from shared::clock, so that a test can steer it",
        broken_by: (
            "auth-service/src/domain/sessions.rs",
            "let now = std::time::SystemTime::now();",
        ),
    },
    Rule {
        holds_in: |file| {
            !file.starts_with("auth-service/") && !file.starts_with("shared/src/testing/") && !file.contains("/tests/")
        },
        forbids: |path| {
            matches!(
                path,
                ["jsonwebtoken", "encode", ..] | ["jsonwebtoken", "crypto", "sign", ..]
            ) || path
                .iter()
                .any(|name| *name == "EncodingKey" || name.ends_with("KeyPair"))
        },
        because: "auth-service alone signs; whoever verifies has nothing to sign with",
        broken_by: (
            "shared/src/token/verifier.rs",
            "use aws_lc_rs::{digest, signature::{self, Ed25519KeyPair}};",
        ),
    },
];

const PRIMITIVES: [&str; 17] = [
    "bool", "char", "f32", "f64", "i128", "i16", "i32", "i64", "i8", "isize", "str", "u128", "u16", "u32", "u64", "u8",
    "usize",
];

fn service(file: &str) -> bool {
    file.starts_with("auth-service/src/") || file.starts_with("game-service/src/")
}

/// Whether the file belongs to this layer of a service.
fn layer(file: &str, name: &str) -> bool {
    let inside = file.split_once("/src/").map_or("", |(_, inside)| inside);
    let rest = inside.strip_prefix(name);
    service(file) && rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

#[test]
fn nobody_names_what_is_not_theirs() {
    let mut broken = Vec::new();
    let mut files = 0;
    for file in sources() {
        let text = fs::read_to_string(workspace().join(&file)).expect("a file");
        let named = named_in(&file, &text);
        assert!(!named.is_empty(), "{file} names nothing");
        for rule in RULES.iter().filter(|rule| (rule.holds_in)(&file)) {
            let bad = named.iter().filter(|named| named.is_forbidden_by(rule));
            broken.extend(bad.map(|named| format!("{file}:{named}: {}", rule.because)));
        }
        files += 1;
    }
    assert!(files > 80, "only {files} files were found");
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_rule_can_be_broken() {
    for rule in RULES {
        let (file, line) = rule.broken_by;
        assert!((rule.holds_in)(file), "{file}: {}", rule.because);
        assert!(workspace().join(file).exists(), "{file}");
        let named = named_in(file, &format!("\n{line}"));
        let bad: Vec<_> = named.iter().filter(|named| named.is_forbidden_by(rule)).collect();
        assert!(
            bad.iter().any(|named| named.line == 2),
            "{line} in {file}: {}",
            rule.because
        );
    }
}

/// `shared <- auth-service, game-service <- deploy/*`.
#[test]
fn no_service_depends_on_another() {
    let manifest = |member: &str| {
        let path = workspace().join(member).join("Cargo.toml");
        fs::read_to_string(path).expect("a manifest")
    };
    let root = manifest("");
    let (_, members) = root.split_once("members = [").expect("the members");
    let (members, _) = members.split_once(']').expect("their end");
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() >= 4, "{members:?}");
    for member in &members {
        let mut own = dependencies(&manifest(member));
        // shared depends on itself for its own tests.
        own.retain(|name| name != member && members.contains(&name.as_str()));
        match *member {
            "shared" => assert_eq!(own, [""; 0], "{member} is below the services"),
            "auth-service" | "game-service" => {
                own.dedup();
                assert_eq!(own, ["shared"], "{member} stands on shared alone");
            }
            member => assert!(member.starts_with("deploy/"), "what may {member} depend on?"),
        }
    }
    let table =
        "[dependencies]\nshared.workspace = true\n[dev-dependencies]\ntokio = \"1\"\n[dependencies.auth-service]\n";
    assert_eq!(dependencies(table), ["auth-service", "shared", "tokio"]);
}

/// The names in every dependency table of a manifest, sorted.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies");
            if let Some((_, name)) = table.split_once("dependencies.") {
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

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("deploy/standalone is two below")
        .to_owned()
}

/// Every file of the programs, by its path in the workspace.
fn sources() -> Vec<String> {
    let root = workspace();
    let mut folders = vec![
        root.join("shared/src"),
        root.join("auth-service/src"),
        root.join("game-service/src"),
    ];
    for entry in fs::read_dir(root.join("deploy")).expect("deploy/") {
        folders.extend(Some(entry.expect("an entry").path().join("src")).filter(|folder| folder.is_dir()));
    }
    let mut files = vec!["shared/build.rs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let path = path.strip_prefix(&root).expect("it is in the workspace");
                files.push(path.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    files.sort();
    files
}

/// A path that a file names, from the crate's root where it is the crate's own.
#[derive(Debug)]
struct Named {
    path: Vec<String>,
    line: usize,
}

impl Named {
    fn is_forbidden_by(&self, rule: &Rule) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        (rule.forbids)(&path)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: names {}", self.line, self.path.join("::"))
    }
}

fn named_in(file: &str, text: &str) -> Vec<Named> {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
    let inside = file
        .split_once("/src/")
        .map_or("", |(_, inside)| inside)
        .trim_end_matches(".rs");
    let modules = inside
        .split('/')
        .filter(|name| !["", "lib", "main", "mod"].contains(name));
    let mut reader = Reader {
        module: ["crate"].into_iter().chain(modules).map(str::to_owned).collect(),
        named: Vec::new(),
        imported: HashMap::new(),
    };
    reader.read(tokens);
    let Reader {
        mut named, imported, ..
    } = reader;
    for Named { path, .. } in &mut named {
        if let Some(full) = imported.get(&path[0]) {
            path.splice(..1, full.iter().cloned());
        }
    }
    named
}

struct Reader {
    /// Where in the crate the tokens are.
    module: Vec<String>,
    named: Vec<Named>,
    /// What the file's `use` items bind names to. In which module of the file does not matter here.
    imported: HashMap<String, Vec<String>>,
}

impl Reader {
    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => {
                    let inner = match &tokens[..at] {
                        [.., TokenTree::Ident(keyword), TokenTree::Ident(name)]
                            if keyword == "mod" && group.delimiter() == Delimiter::Brace =>
                        {
                            Some(name.to_string())
                        }
                        _ => None,
                    };
                    let depth = self.module.len();
                    self.module.extend(inner);
                    self.read(group.stream());
                    self.module.truncate(depth);
                    at += 1;
                }
                TokenTree::Ident(keyword) if keyword == "use" && !opens_generics(tokens.get(at + 1)) => {
                    at = self.tree(&tokens, at + 1, &[]);
                }
                TokenTree::Ident(_) if !is_member(&tokens[..at]) => {
                    let (path, next) = path(&tokens, at);
                    self.name(path, &tokens[at]);
                    at = next;
                }
                _ => at += 1,
            }
        }
    }

    /// A tree of a `use`: every path in it is one that is named.
    fn tree(&mut self, tokens: &[TokenTree], at: usize, prefix: &[String]) -> usize {
        let (names, mut next) = path(tokens, at);
        let full = [prefix, &names].concat();
        match tokens.get(next) {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut at = 0;
                while at < inner.len() {
                    at = self.tree(&inner, at, &full);
                }
                next += 1;
            }
            _ => self.import(full, &tokens[at..], next - at),
        }
        // `as name`, `*`, and what separates this tree from the next.
        while let Some(token) = tokens.get(next) {
            next += 1;
            if matches!(token, TokenTree::Punct(mark) if [',', ';'].contains(&mark.as_char())) {
                break;
            }
        }
        next
    }

    /// `tokens` begin with the end of the path, of which this many are its own.
    fn import(&mut self, path: Vec<String>, tokens: &[TokenTree], own: usize) {
        let name = match &tokens[own..] {
            [TokenTree::Ident(keyword), TokenTree::Ident(name), ..] if keyword == "as" => Some(name.to_string()),
            [TokenTree::Punct(mark), ..] if mark.as_char() == '*' => None,
            _ => path.iter().rev().find(|name| *name != "self").cloned(),
        };
        let before = self.named.len();
        self.name(path, &tokens[0]);
        if let (Some(name), Some(named)) = (name, self.named.get(before)) {
            self.imported.insert(name, named.path.clone());
        }
    }

    fn name(&mut self, path: Vec<String>, token: &TokenTree) {
        let mut resolved = Vec::new();
        for (index, name) in path.into_iter().enumerate() {
            match name.as_str() {
                "self" if index == 0 => resolved.clone_from(&self.module),
                "super" => {
                    if index == 0 {
                        resolved.clone_from(&self.module);
                    }
                    resolved.pop();
                }
                "self" => {}
                _ => resolved.push(name),
            }
        }
        if !resolved.is_empty() {
            let line = token.span().start().line;
            self.named.push(Named { path: resolved, line });
        }
    }
}

/// The names from here that `::` joins, and where they end.
fn path(tokens: &[TokenTree], mut at: usize) -> (Vec<String>, usize) {
    let mut names = Vec::new();
    let joined = |at: usize| {
        let colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
        colon(tokens.get(at)) && colon(tokens.get(at + 1))
    };
    if joined(at) {
        at += 2;
    }
    while let Some(TokenTree::Ident(name)) = tokens.get(at) {
        names.push(name.to_string().trim_start_matches("r#").to_owned());
        at += 1;
        if !joined(at) {
            break;
        }
        at += 2;
    }
    (names, at)
}

/// As in `impl Trait + use<'a>`.
fn opens_generics(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(mark)) if mark.as_char() == '<')
}

/// Whether what follows these tokens is a field, a method or a lifetime.
fn is_member(before: &[TokenTree]) -> bool {
    let mark = |token: &TokenTree| match token {
        TokenTree::Punct(mark) => Some(mark.as_char()),
        _ => None,
    };
    match before {
        [.., one, two] if mark(one) == Some('.') && mark(two) == Some('.') => false,
        [.., last] => matches!(mark(last), Some('.' | '\'')),
        [] => false,
    }
}
