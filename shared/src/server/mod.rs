//! The server around a service: listeners, limits, tracing, health, reflection, the HTTP port, the drain.
//!
//! A request's way: listener -> [`rpc`](self) (request id, span, metrics, admission, deadline) -> who calls -> may they -> the RPC.

mod admission;
mod concurrency;
mod deadline;
mod grpc;
mod health;
mod http;
mod invalid;
mod jobs;
mod listen;
mod local;
mod message;
mod mount;
mod peer;
mod probe;
mod refusals;
mod request_id;
mod rest;
mod rpc;
mod rpcs;
mod serve;
mod settings;
mod shutdown;
mod stream;
mod unfinished;

#[cfg(test)]
mod tests;

pub use self::{
    grpc::{GrpcServer, MAX_MESSAGE_LEN, ServeError},
    health::Health,
    http::HttpServer,
    listen::{BindError, Listener},
    local::LocalConnector,
    mount::{PageMount, RpcMount},
    peer::ClientAddress,
    probe::Probe,
    request_id::RequestId,
    settings::{ServerSettings, TlsError},
    shutdown::{Running, shutdown_signal},
};
pub(crate) use self::{serve::raise_descriptor_limit, stream::StreamCaller};
