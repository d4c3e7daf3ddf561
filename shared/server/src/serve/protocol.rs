//! The protocol of a port.

/// The protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/2 alone.
    Grpc,
    /// HTTP/1.
    Http,
}
