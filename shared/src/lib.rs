//! What auth-service, game-service and every further service build on.

pub mod clock;
pub mod db;
pub mod error;
pub mod ids;
pub mod page;
pub mod proto;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod validate;
