//! The access feed.

mod acknowledgement;
mod lossy_promotion;
pub(crate) mod stream;
