//! Finds circles of dependencies. The files of a crate must form layers, so that each can be read
//! without those above it.
//!
//! A `pub use` counts as a dependency of the files that name the re-exported item, and not of the
//! file that re-exports it.

use std::{collections::HashMap, fmt::Write as _, fs};

use super::names::{PathUse, named_in, sources, workspace};

struct SourceFile {
    path: String,
    named: Vec<PathUse>,
}

/// The files of one crate.
#[derive(Default)]
struct Crate {
    files: Vec<SourceFile>,
    /// Index in `files` of the file of each module.
    modules: HashMap<Vec<String>, usize>,
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut crates: HashMap<String, Crate> = HashMap::new();
    for file in sources() {
        let Some((root, inside)) = file.split_once("/src/").filter(|(_, inside)| !is_test(inside)) else {
            continue;
        };
        let text = fs::read_to_string(workspace().join(&file)).expect("a file");
        let inside = inside.to_owned();
        let (root, named) = (root.to_owned(), named_in(&file, &text));
        // A program beside a library is a crate of its own.
        let is_program = inside == "main.rs" && workspace().join(&root).join("src/lib.rs").exists();
        let root = if is_program { format!("{root}/main.rs") } else { root };
        crates.entry(root).or_default().add(&inside, file, named);
    }
    let mut circles: Vec<String> = crates.values().flat_map(Crate::circles).collect();
    circles.sort();
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn a_circle_through_a_reexport_is_found() {
    let files = |child: &str, other: &str| {
        let mut sample = Crate::default();
        for (inside, text) in [
            ("lib.rs", "mod room; mod other;"),
            ("room/mod.rs", "mod child; pub(crate) use self::child::Thing;"),
            ("room/child.rs", child),
            ("other.rs", other),
        ] {
            let file = format!("sample/src/{inside}");
            let named = named_in(&file, text);
            sample.add(inside, file, named);
        }
        sample.circles()
    };
    let (below, above) = ("pub struct Other;", "use crate::room::Thing;");
    assert_eq!(files("pub struct Thing;", above), [""; 0]);
    assert_eq!(files("use crate::other::Other;", below), [""; 0]);
    assert_eq!(files("use crate::other::Other;", above).len(), 1);
    assert_eq!(files("mod tests { use crate::other::Other; }", above), [""; 0]);
    assert_eq!(files("fn f() { super::super::other::g() }", above).len(), 1);
}

fn is_test(inside: &str) -> bool {
    inside
        .split('/')
        .any(|part| ["tests", "testing", "tests.rs", "fuzz.rs"].contains(&part))
}

impl Crate {
    fn add(&mut self, inside: &str, path: String, named: Vec<PathUse>) {
        let modules = inside.trim_end_matches(".rs").split('/');
        let module = modules
            .filter(|name| !["lib", "main", "mod"].contains(name))
            .map(str::to_owned)
            .collect();
        self.modules.insert(module, self.files.len());
        self.files.push(SourceFile { path, named });
    }

    /// Returns a description of each circle of files, with the references in it.
    fn circles(&self) -> Vec<String> {
        let arrows: Vec<Vec<(usize, &PathUse)>> = (0..self.files.len()).map(|file| self.arrows(file)).collect();
        let below: Vec<Vec<bool>> = (0..arrows.len()).map(|file| reachable(&arrows, file)).collect();
        let mut told = vec![false; arrows.len()];
        let mut circles = Vec::new();
        for file in 0..arrows.len() {
            if told[file] || !below[file][file] {
                continue;
            }
            let within = |other: usize| below[file][other] && below[other][file];
            let mut text = "these files stand on each other:".to_owned();
            for (from, arrows) in arrows.iter().enumerate().filter(|(from, _)| within(*from)) {
                told[from] = true;
                let mut named_before = vec![from];
                for (to, named) in arrows.iter().filter(|(to, _)| within(*to)) {
                    if !named_before.contains(to) {
                        named_before.push(*to);
                        let _ = write!(text, "\n    {}:{named}", self.files[from].path);
                    }
                }
            }
            circles.push(text);
        }
        circles
    }

    /// Returns the other files that a file depends on, each with the path that it names.
    fn arrows(&self, file: usize) -> Vec<(usize, &PathUse)> {
        let named = self.files[file].named.iter();
        named
            .filter(|named| !named.is_in_tests && named.reexported_as.is_none())
            .filter_map(|named| Some((self.file_of(&named.path, 0)?, named)))
            .filter(|(to, _)| *to != file)
            .collect()
    }

    /// Returns the file that defines the item at a path, and follows re-exports to it. Returns
    /// `None` if the item is from another crate.
    fn file_of(&self, path: &[String], depth: usize) -> Option<usize> {
        let [first, inside @ ..] = path else { return None };
        if first != "crate" || depth > 8 {
            return None;
        }
        let (len, file) = (0..=inside.len())
            .rev()
            .find_map(|len| Some((len, *self.modules.get(&inside[..len])?)))?;
        let Some(name) = inside.get(len) else { return Some(file) };
        let mut passed_on = self.files[file].named.iter();
        match passed_on.find(|named| named.reexported_as.as_ref() == Some(name)) {
            Some(named) => {
                let full = [&named.path[..], &inside[len + 1..]].concat();
                // This is `None` if the re-exported item is from another crate.
                self.file_of(&full, depth + 1)
            }
            None => Some(file),
        }
    }
}

/// Returns for each file whether it can be reached from this one by one or more references.
fn reachable(arrows: &[Vec<(usize, &PathUse)>], from: usize) -> Vec<bool> {
    let mut reached = vec![false; arrows.len()];
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        for (to, _) in &arrows[file] {
            if !reached[*to] {
                reached[*to] = true;
                next.push(*to);
            }
        }
    }
    reached
}
