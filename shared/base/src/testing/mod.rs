//! What tests are built from. Behind the feature `testing`, and never part of a service.

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

/// How often a test goes round that can go on for long: so often as this environment variable says,
/// and otherwise a few times.
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
