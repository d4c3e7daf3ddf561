//! The gRPC services, one file each. Each RPC parses its request, makes one call into the domain
//! and converts the result.

mod access_feed;
mod account;
mod audit;
mod auth;
mod convert;
mod credentials;
mod emails;
mod error;
mod export;
mod factors;
mod fields;
#[cfg(test)]
mod fuzz;
mod guests;
mod keys;
mod locale;
mod passwords;
mod profile;
mod rbac;
mod rbac_messages;
mod rbac_requests;
mod reauthentication;
mod request_context;
mod service_accounts;
mod sessions;
mod transport;
mod users;

pub(crate) use self::{
    access_feed::AccessFeedRpc, account::AccountRpc, audit::AuditRpc, auth::AuthRpc, keys::KeyRpc, rbac::RbacRpc,
    service_accounts::ServiceAccountRpc, transport::Transports, users::UserRpc,
};
