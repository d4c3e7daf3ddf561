//! The rules of auth-service. A use case is a method of a type such as [`Accounts`], [`Sessions`]
//! or [`Rbac`]. Its change is made in one transaction.

mod audit;
pub(crate) mod counts;
mod emails;
mod error;
mod factors;
pub(crate) mod feed;
#[cfg(test)]
mod fuzz;
mod guests;
mod keys;
mod mail;
mod passwords;
mod rbac;
mod refusals;
mod request_context;
mod services;
mod sessions;
mod tokens;
mod users;

pub(crate) use self::{
    audit::log::AuditLog,
    emails::{caller::AddressOwner, rule::EmailRequirement},
    error::Error,
    factors::{
        challenge_token::ChallengeTokens,
        challenges::Challenge,
        codes::RecoveryCodes,
        proof::SecondProof,
        rules::{Factors, warn_of_unknown_roles},
        totp::{DIGITS as TOTP_DIGITS, TotpSecrets, TotpSetup},
    },
    feed::{
        stream::{FeedEnded, FeedStream, position as feed_position},
        tail::FeedTail,
    },
    guests::{
        credential::GuestCredentials, login::GuestLogin, registration::NewGuest, rules::Guests, upgrade::Upgrade,
    },
    keys::{mac_keys::MAX_LEN as MAX_TOKEN_LEN, ring::KeyRing, schedule::KeySchedule, signing_key::KeyRingError},
    mail::{codes::PresentedCode, outbox::Mails, requests::ResetRequest},
    passwords::{
        attempts::{AttemptRules, Attempts},
        breached::BreachedPasswords,
        changes::PasswordChange,
        hashing::{HashingPool, HashingSettings},
        imported::{CheckedHash, HashLimits},
        password::{Password, PasswordRules},
        present_costs::PresentCosts,
        reset::PasswordReset,
    },
    rbac::{
        catalog::{DECLARATIONS, EntryChange, Rbac},
        code_name::{CodeName, PermissionName},
        decisions::Decision,
        declared::{Declared, declare_own},
        grants::{Grant, PermissionSources},
        lock::MAX_ROLE_PERMISSIONS,
        roles::RoleWithPermissions,
    },
    request_context::{Actor, Origin, RequestContext},
    services::{
        accounts::{AccountWithHoldings, NewServiceAccount, ServiceAccounts, create_service_account},
        client_id::ClientId,
    },
    sessions::{
        introspection::Introspection,
        known_devices::KnownDevices,
        lifecycle::Sessions,
        lifetimes::{SessionLifetimes, TokenPair},
        lost_revocations::LostRevocations,
        plain_logins::PlainLoginWriter,
        restore::after_restore,
        token_uses::TokenUseWriter,
    },
    tokens::{
        access::{AccessToken, Issuer, RequestedAudience},
        device::DeviceTokens,
        refresh::RefreshTokens,
    },
    users::{
        accounts::Accounts,
        administration::{NewAccount, UserReference},
        export::{ExportLists, ExportPage, ExportPart, ExportedAccount, LimitCount},
        export_limits::ExportLimits,
        first_admin::{bootstrap, create_admin},
        import::{Imported, ImportedUser, Rejected, UserImport},
        invitations::Invitation,
        login::{Credentials, LoginOutcome},
        names::{Email, Login, MAX_IDENTIFIER_BYTES, PersonName, ensure_not_reserved, fold, identifier_key, is_unseen},
        profile::ProfileChanges,
        reauthentication::Proof,
        registration::{NewPerson, Registered, Registration},
        stale_keys::{recheck_stale_name_keys, recompute_stale_name_keys},
    },
};
pub use self::{
    keys::secret::{SecretError, ServerSecrets},
    services::{
        accounts::generate_client_secret,
        declared::{InvalidServiceAccounts, ServiceAccountSpec},
    },
    users::first_admin::{ensure_first_admin, first_admin_password_changed, generate_password},
};
