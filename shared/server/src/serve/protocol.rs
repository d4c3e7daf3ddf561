//! Protocol of a port.

/// Protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/2 only.
    Grpc,
    /// HTTP/1.
    Http,
}
