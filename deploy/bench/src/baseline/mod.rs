//! What the services are measured against.

pub(crate) mod bare_rpc;
pub(crate) mod bare_sql;
