//! The access feed.

mod lossy_promotion;
pub(crate) mod stream;
