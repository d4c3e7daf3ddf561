//! Foundation of every crate and service here: time, ids, validation, errors, settings, telemetry,
//! and the start and end of a program.
//!
//! Nothing in this crate opens a database, reads a token or serves an RPC.

pub mod backing;
pub mod backoff;
pub mod clock;
pub mod concurrency_limit;
pub mod descriptors;
pub mod error;
pub mod ids;
mod jobs;
pub mod json;
pub mod listen;
pub mod local;
pub mod page;
pub mod program;
pub mod rate;
pub mod running;
pub mod secret_files;
pub mod shares;
#[cfg(feature = "diesel")]
pub mod sql_types;
mod start_error;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
pub mod validate;

pub use self::start_error::StartError;
