//! SQL: one file a table, every query written once for both backends.

mod audit;
mod feed;
mod grant;
mod role;
mod schema;
mod session;
mod signing_key;
mod user;

use diesel_migrations::embed_migrations;
use shared::db::Migrations;

pub(crate) use self::{
    audit::{AuditRow, audit_insert},
    feed::{
        FeedHead, FeedRow, feed_after, feed_head, feed_head_advance, feed_head_insert,
        feed_head_set_max_access_token_seconds, feed_upsert,
    },
    grant::{
        other_active_user_has_role, permission_names, role_lock, role_permission_names, user_permission_names,
        user_role_permissions,
    },
    role::{Role, user_role_insert, user_role_names, users_with_role_exist},
    session::{
        NewSession, Session, SessionEnd, session_by_id, session_end, session_insert, session_mark_used, session_rotate,
        sessions_end_all,
    },
    signing_key::{KeyState, SigningKeyRow, signing_key_insert, signing_key_reencrypt, signing_keys_list},
    user::{
        NewUser, User, user_by_email, user_by_id, user_by_login, user_insert, user_lock, user_password_rehash,
        user_raise_token_version, user_record_login, user_set_force_logout_time,
    },
};

/// The migrations of auth-service's database.
pub static MIGRATIONS: Migrations = Migrations {
    sqlite: embed_migrations!("migrations/sqlite"),
    postgres: embed_migrations!("migrations/postgres"),
};
