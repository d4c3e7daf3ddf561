//! View of the current revocations and roles. Every request consults it: is the token still valid,
//! and does the role still hold the permission?
//!
//! The consumer of the access feed passes the messages of each stream to an [`AccessIntake`], which
//! applies them to the [`AccessView`].

mod error;
mod feed_state;
mod intake;
mod position;
mod shared;
mod silence_rule;
#[cfg(test)]
pub(crate) mod tests;
#[expect(clippy::module_inception, reason = "the room is named for the view")]
mod view;

pub use self::{
    error::FeedError,
    feed_state::LostRevocations,
    intake::AccessIntake,
    position::{Epoch, EpochKind, FeedPosition},
    silence_rule::{OnSilence, SilenceRule, SilenceSettings},
    view::{AccessView, Refused},
};
