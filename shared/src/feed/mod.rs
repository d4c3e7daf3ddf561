//! The access feed: how a service learns at once what changes about tokens that are already out.
//!
//! auth-service sends what is known and then every change (`proto/auth/v1/access_feed_service.proto`). A service keeps that in an
//! [`AccessView`], which every request asks: is this token still good, does this role still hold that permission. An
//! [`AccessIntake`] takes the messages of one stream into the view, whoever reads it.

mod connect;
mod credentials;
mod declare;
mod follower;
mod intake;
mod known;
mod names;
pub mod silence;
mod view;

pub use self::{
    connect::auth_channel,
    credentials::{ClientSecret, Restore, ServiceCredentials},
    follower::Follower,
    intake::{AccessIntake, FeedError},
    known::LostRevocations,
    names::{NameChange, NameChanges, NameFeed},
    silence::{OnSilence, SilenceRule, SilenceSettings},
    view::{AccessView, Refused},
};
use crate::ids::{Id, Kind};

/// Names a life of the feed: a database that was put back from a back-up begins a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EpochKind {}

impl Kind for EpochKind {
    const NAME: &'static str = "epoch";
}

/// Names a life of the feed.
pub type Epoch = Id<EpochKind>;

/// How far a consumer of the feed has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// In which life of the feed.
    pub epoch: Epoch,
    /// The last change that it knows, from 0.
    pub sequence: i64,
}

#[cfg(test)]
mod tests;
