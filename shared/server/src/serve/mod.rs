//! Serving loop of every port: it accepts connections, limits their number, and ends those that
//! stall, idle or flood.
//!
//! hyper implements HTTP itself. This module adds what hyper leaves open: who may connect, how long
//! a connection may take to open, what a client may send besides its calls, and how long a response
//! may stay unread.

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
