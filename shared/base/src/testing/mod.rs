//! Building blocks for tests. Behind the feature `testing`, and never part of a service.

use std::{fs::File, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

pub mod endpoint;
pub mod faketime;
pub mod fuzz;
pub mod rpc;

/// Writes a file that only its owner may read, as the services require for secrets.
pub fn write_secret(path: impl AsRef<Path>, text: &str) {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("write a file");
}

/// Returns the number of rounds for a test that can run for any length of time: the value of this
/// environment variable, or `otherwise` if it is unset or not a number.
pub fn rounds(variable: &str, otherwise: usize) -> usize {
    #[expect(clippy::disallowed_methods, reason = "a test has no settings")]
    let given = std::env::var(variable);
    given.ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Runs a test on a runtime like a service's.
pub fn block_on<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test)
}
