//! Server around a service: listeners, limits, tracing, health, reflection, the HTTP port and
//! graceful shutdown.
//!
//! A request passes through, in this order: the listener; the layer in `rpc.rs` (request id, span,
//! metrics, deadline, admission); authentication; the limits of its caller; authorization; the RPC.

mod admission;
mod args;
mod codes;
mod concurrency;
mod deadline;
mod grpc;
mod health;
mod http;
mod invalid;
mod message;
mod mount;
mod network;
mod peer;
mod probe;
mod record;
mod refusals;
mod reply;
mod request_id;
mod rest;
mod rpc;
mod rpcs;
mod serve;
mod service;
mod settings;
mod stream;
mod unfinished;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use self::{
    args::ServiceArgs,
    grpc::{GrpcServer, ServeError},
    health::Health,
    http::HttpServer,
    message::MAX_MESSAGE_LEN,
    mount::{PageMount, RpcMount},
    peer::ClientAddress,
    probe::Probe,
    request_id::RequestId,
    service::{Service, Starting},
    settings::{ServerSettings, TlsError},
};
