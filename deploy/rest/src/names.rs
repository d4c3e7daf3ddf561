//! Names by which parts of the document refer to each other.

pub(crate) const BEARER: &str = "bearer";
pub(crate) const ERROR: &str = "error";
/// Header with which a page asks for the cookie, and its parameter.
pub(crate) const TRANSPORT: &str = "x-token-transport";
