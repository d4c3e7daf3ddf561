//! Finds the paths that a source file names.
//!
//! A file is read as tokens. Paths in macros count like any others, and comments and strings are
//! skipped.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

pub(super) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("deploy/standalone is two below")
        .to_owned()
}

/// Returns every source file of the programs and shared crates, by its path in the workspace.
pub(super) fn sources() -> Vec<String> {
    let root = workspace();
    let mut folders = vec![root.join("auth-service/src"), root.join("game-service/src")];
    for parent in ["deploy", "shared"] {
        for entry in fs::read_dir(root.join(parent)).expect("a folder") {
            folders.extend(Some(entry.expect("an entry").path().join("src")).filter(|folder| folder.is_dir()));
        }
    }
    let mut files = vec!["shared/proto/build.rs".to_owned()];
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

/// A path that a file names. A path within the file's own crate begins with `crate`.
#[derive(Debug)]
pub(super) struct PathUse {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
    /// Whether the path is named in a `tests` module within the file.
    pub(super) is_in_tests: bool,
    /// Name under which a `pub use` re-exports the path.
    pub(super) reexported_as: Option<String>,
    /// Whether an `impl` block is for the path.
    pub(super) has_impl: bool,
}

impl fmt::Display for PathUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: names {}", self.line, self.path.join("::"))
    }
}

pub(super) fn named_in(file: &str, text: &str) -> Vec<PathUse> {
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
        own_depth: 0,
        passes_on: false,
        named: Vec::new(),
        imported: HashMap::new(),
    };
    reader.own_depth = reader.module.len();
    reader.read(tokens);
    let Reader {
        mut named, imported, ..
    } = reader;
    for PathUse { path, .. } in &mut named {
        if let Some(full) = imported.get(&path[0]) {
            path.splice(..1, full.iter().cloned());
        }
    }
    named
}

struct Reader {
    /// Module of the tokens that are being read.
    module: Vec<String>,
    /// Length of `module` outside of the file's inner modules.
    own_depth: usize,
    /// Whether the tokens belong to a `pub use`.
    passes_on: bool,
    named: Vec<PathUse>,
    /// Full paths of the names that the file's `use` items bind. The inner module of an item does
    /// not matter here.
    imported: HashMap<String, Vec<String>>,
}

impl Reader {
    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                // `pub(crate)` names nothing.
                TokenTree::Group(_) if is_visibility(&tokens[..=at]) => at += 1,
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
                    self.passes_on = is_public(&tokens[..at]);
                    at = self.tree(&tokens, at + 1, &[]);
                    self.passes_on = false;
                }
                TokenTree::Ident(_) if !is_member(&tokens[..at]) => {
                    let (path, next) = path(&tokens, at);
                    let before = self.named.len();
                    self.name(path, &tokens[at]);
                    if let Some(named) = self.named.get_mut(before) {
                        named.has_impl = opens_impl(&tokens[..at]);
                    }
                    at = next;
                }
                _ => at += 1,
            }
        }
    }

    /// Reads one tree of a `use` item, and records every path in it. Returns the index after the
    /// tree.
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
        // Skip `as name`, `*`, and the separator before the next tree.
        while let Some(token) = tokens.get(next) {
            next += 1;
            if matches!(token, TokenTree::Punct(mark) if [',', ';'].contains(&mark.as_char())) {
                break;
            }
        }
        next
    }

    /// Records an imported path. `tokens` begin with the last part of the path, which is `own`
    /// tokens long.
    fn import(&mut self, path: Vec<String>, tokens: &[TokenTree], own: usize) {
        let name = match &tokens[own..] {
            [TokenTree::Ident(keyword), TokenTree::Ident(name), ..] if keyword == "as" => Some(name.to_string()),
            [TokenTree::Punct(mark), ..] if mark.as_char() == '*' => None,
            _ => path.iter().rev().find(|name| *name != "self").cloned(),
        };
        let before = self.named.len();
        self.name(path, &tokens[0]);
        if let (Some(name), Some(named)) = (name, self.named.get_mut(before)) {
            self.imported.insert(name.clone(), named.path.clone());
            named.reexported_as = Some(name).filter(|_| self.passes_on);
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
            let inner = &self.module[self.own_depth..];
            self.named.push(PathUse {
                path: resolved,
                line,
                is_in_tests: inner.iter().any(|module| module == "tests"),
                reexported_as: None,
                has_impl: false,
            });
        }
    }
}

/// Reads the names that `::` joins from this index on. Returns them and the index after them.
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

/// Returns whether this token opens generics, as after the `use` of `impl Trait + use<'a>`.
fn opens_generics(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(mark)) if mark.as_char() == '<')
}

/// Returns whether these tokens end with `impl` or with `impl Trait for`, without generics.
fn opens_impl(before: &[TokenTree]) -> bool {
    matches!(before, [.., TokenTree::Ident(keyword)] if keyword == "impl" || keyword == "for")
}

/// Returns whether an item that follows these tokens is `pub`, `pub(crate)` or the like.
fn is_public(before: &[TokenTree]) -> bool {
    matches!(before, [.., TokenTree::Ident(keyword)] if keyword == "pub") || is_visibility(before)
}

/// Returns whether these tokens end with `pub(crate)` or the like.
fn is_visibility(tokens: &[TokenTree]) -> bool {
    matches!(
        tokens,
        [.., TokenTree::Ident(keyword), TokenTree::Group(group)]
            if keyword == "pub" && group.delimiter() == Delimiter::Parenthesis
    )
}

/// Returns whether the name after these tokens is a field, a method or a lifetime.
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
