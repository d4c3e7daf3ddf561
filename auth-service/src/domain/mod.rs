//! The rules of auth-service. A use case is one method of [`Accounts`] or [`Sessions`], and at most one transaction.

mod access_token;
mod accounts;
mod act;
mod attempts;
mod audit;
mod audit_log;
mod authority;
mod client_id;
mod code_name;
mod common_passwords;
pub(crate) mod counts;
mod declared_accounts;
mod declared_policies;
mod deletion;
mod device_token;
mod devices;
mod error;
pub(crate) mod feed;
mod feed_stream;
mod first_admin;
#[cfg(test)]
mod fuzz;
mod grants;
mod hashing;
mod hashing_queue;
mod introspection;
mod key_ring;
mod login;
mod lost_revocations;
mod mac_keys;
mod names;
mod password;
mod passwords;
mod people;
mod policies;
mod profile;
mod rbac;
mod rbac_deletion;
mod refresh_token;
mod registration;
mod restore;
mod revocation;
mod secret;
mod service_accounts;
mod session;
mod session_ends;
mod sessions;
mod signing_key;
mod stale_keys;
mod user_sessions;
mod users;

pub(crate) use self::{
    access_token::{AccessToken, Issuer, RequestedAudience},
    accounts::Accounts,
    act::{Act, Actor, Origin},
    attempts::{AttemptRules, Attempts},
    audit_log::AuditLog,
    client_id::ClientId,
    code_name::{CodeName, PermissionName},
    declared_policies::{Declared, declare_own},
    device_token::DeviceTokens,
    error::Error,
    feed_stream::{FeedEnded, FeedStream, FeedTail, position as feed_position},
    first_admin::{bootstrap, create_admin},
    grants::{Decision, Held},
    hashing::{HashingPool, HashingSettings},
    introspection::Introspection,
    key_ring::{KeyRing, KeySchedule},
    login::{Credentials, LoggedIn},
    lost_revocations::LostRevocations,
    names::{Email, Login, MAX_IDENTIFIER_BYTES, PersonName, fold, is_unseen},
    password::{Password, PasswordRules},
    passwords::PasswordChange,
    policies::MAX_ROLE_PERMISSIONS,
    profile::ProfileChanges,
    rbac::{DECLARATIONS, Named, Rbac, Renaming, RoleWithPermissions, is_reserved_action, is_reserved_role},
    refresh_token::RefreshTokens,
    registration::Registration,
    restore::after_restore,
    service_accounts::{Described, NewServiceAccount, ServiceAccounts, create_service_account},
    session::{SessionLives, TokenPair},
    sessions::Sessions,
    signing_key::KeyRingError,
    stale_keys::{recompute_stale_keys, tend_stale_keys},
    users::NewAccount,
};
pub use self::{
    declared_accounts::{InvalidServiceAccounts, ServiceAccountSpec},
    first_admin::{ensure_first_admin, first_admin_password_changed, generate_password},
    secret::{SecretError, ServerSecrets},
    service_accounts::generate_client_secret,
};
/// A user is a row as it is, and so are others: answers hold them, and nothing above needs the store for it.
pub(crate) use crate::store::{
    ActionRow, AuditFilter, AuditRow, PermissionRow, ResourceRow, Session, SigningKeyRow, User, UserFilter,
};
