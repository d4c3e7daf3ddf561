//! What auth-service, game-service and every further service build on.

pub mod authz;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
pub mod feed;
pub mod ids;
pub mod page;
pub mod places;
pub mod proto;
pub mod rate;
pub mod secret_files;
pub mod server;
pub mod shares;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
pub mod validate;
