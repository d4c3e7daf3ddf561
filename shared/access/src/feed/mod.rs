//! Access feed, which tells a service at once about changes that affect tokens already issued.
//!
//! auth-service sends a snapshot and then every change (`proto/auth/v1/access_feed_service.proto`).
//! A [`Follower`] applies them to the service's [`AccessView`](crate::view::AccessView).

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
