//! The access feed: how a service learns at once what changes about tokens that were already
//! issued.
//!
//! auth-service sends what is known and then every change
//! (`proto/auth/v1/access_feed_service.proto`). A [`Follower`] gives that to the service's
//! [`AccessView`](crate::view::AccessView).

mod connect;
mod credentials;
mod declare;
mod error;
mod follower;
mod names;
pub mod silence_report;

#[cfg(test)]
mod tests;

pub use self::{
    connect::auth_channel,
    credentials::{ClientSecret, Restore, ServiceCredentials},
    follower::Follower,
    names::{NameChange, NameChanges, NameFeed},
};
