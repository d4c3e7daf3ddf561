//! The serving loop of every port: accepts connections, bounds their number, and ends those that
//! stall, idle or flood.
//!
//! HTTP itself is hyper's. This room adds what hyper leaves open: who may connect, how long a
//! connection may take to get going, what a client may send beside its calls, and how long an
//! answer may lie unread.

mod accept;
mod activity;
mod answer;
mod connection;
mod frames;
mod guard;
mod limits;
mod protocol;
mod tls;
mod unread;

#[cfg(test)]
mod tests;

pub(super) use self::{
    accept::{Port, serve_local},
    connection::Connection,
    limits::ConnectionLimits,
    protocol::Protocol,
    tls::server_config,
};
