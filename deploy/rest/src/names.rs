//! Names in the document that its parts refer to.

pub(crate) const BEARER: &str = "bearer";
pub(crate) const COOKIE: &str = "cookie";
pub(crate) const ERROR: &str = "error";
/// A parameter, and the header of that name.
pub(crate) const TRANSPORT: &str = "x-token-transport";
