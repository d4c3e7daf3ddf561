//! What a service knows of revocations and roles, which every request asks: is this token still
//! good, does this role still hold that permission.
//!
//! Whoever receives changes passes them to an [`AccessIntake`], which takes the messages of one
//! stream of the access feed into the [`AccessView`].

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
