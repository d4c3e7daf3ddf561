//! Names by which parts of the document refer to each other.

pub(crate) const BEARER: &str = "bearer";
pub(crate) const COOKIE: &str = "cookie";
pub(crate) const ERROR: &str = "error";
/// Name of the parameter and of its header.
pub(crate) const TRANSPORT: &str = "x-token-transport";
