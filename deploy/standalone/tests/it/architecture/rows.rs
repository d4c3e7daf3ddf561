//! Row types stay in `store`. Code above it must not re-export them or implement anything for them:
//! rules are implemented for the types of `domain` and `model`.

use std::fs;

use super::{
    layer,
    names::{PathUse, named_in, sources, workspace},
    service,
};

#[test]
fn row_types_do_not_leave_the_store() {
    let mut broken = Vec::new();
    for file in sources().iter().filter(|file| service(file) && !layer(file, "store")) {
        let text = fs::read_to_string(workspace().join(file)).expect("a file");
        broken.extend(leaks(file, &text).iter().map(|named| format!("{file}:{named}")));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn a_leaked_row_type_is_found() {
    let file = "auth-service/src/domain/mod.rs";
    for bad in [
        "pub(crate) use crate::store::UserRow;",
        "impl crate::store::UserRow {}",
        "use crate::store; impl store::UserRow {}",
        "use crate::store::UserRow; impl Display for UserRow {}",
    ] {
        assert_eq!(leaks(file, bad).len(), 1, "{bad}");
    }
    for good in [
        "use crate::store::UserRow;",
        "use crate::store::UserRow; impl From<UserRow> for User {}",
        "pub(crate) use crate::model::User; impl User {}",
    ] {
        assert!(leaks(file, good).is_empty(), "{good}");
    }
}

/// Returns the paths in `store` that a file re-exports or has an `impl` for. `MIGRATIONS` are
/// allowed, because a library re-exports them to its programs.
fn leaks(file: &str, text: &str) -> Vec<PathUse> {
    let mut named = named_in(file, text);
    named.retain(|named| {
        let is_of_store = named.path.starts_with(&["crate".to_owned(), "store".to_owned()]);
        let is_for_all = named.path.last().is_some_and(|name| name == "MIGRATIONS");
        is_of_store && !is_for_all && (named.reexported_as.is_some() || named.has_impl)
    });
    named
}
