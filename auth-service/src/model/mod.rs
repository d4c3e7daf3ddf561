//! Plain values that `store` reads and writes, `domain` reasons about and `grpc` turns into
//! messages.
//!
//! A type lives here together with the rules that concern only it. Nothing here depends on a query,
//! a transaction or a request.

mod audit;
mod authentication;
mod catalog;
mod factor;
mod feed;
mod guest;
mod holdings;
mod mail;
mod reserved;
mod service_account;
mod session;
mod signing_key;
mod user;
mod user_import;

pub(crate) use self::{
    audit::{AuditEntry, AuditFilter, AuditOutcome},
    authentication::{AuthMethods, Authentication},
    catalog::{Action, EntryNames, Permission, Resource, Role},
    factor::{LoginChallenge, RecoveryCode, TotpFactor},
    feed::{FeedHead, FeedKind},
    guest::GuestCredential,
    holdings::{Holdings, TokenHoldings, covers},
    mail::{AccountCode, CodePurpose, EmailUndo, MailKind, MailedCode, OutboxMail, WaitingMail},
    reserved::{ReservedAction, ReservedRole},
    service_account::ServiceAccount,
    session::{Ended, Rotation, Session, SessionEnd, TokenState},
    signing_key::{KeyState, SigningKeyRecord},
    user::{User, UserFilter},
    user_import::ImportProgress,
};
