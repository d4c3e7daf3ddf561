//! The access feed: changes that services which verify tokens must learn of.
//!
//! A use case publishes its [`Change`]s as the last step of its transaction. [`stream`] sends them
//! to the followers of the feed. This module does not know why something changed.

mod changes;
mod marks;
pub(super) mod stream;
pub(super) mod tail;

pub(super) use self::changes::revocation_life;
pub(crate) use self::changes::{CHANNEL, Change, hold, is_published, prepare, publish, settle, sync};
