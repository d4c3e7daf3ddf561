//! The baselines that the services are compared with.

pub(crate) mod bare_rpc;
pub(crate) mod bare_sql;
