//! The SQL of auth-service. There is one file for each table or subject, and each query serves both
//! backends.

mod account_code;
mod audit;
mod catalog;
mod columns;
mod email;
mod export;
mod factor;
mod feed;
mod grant;
mod groups;
mod guest;
mod holding;
mod login_challenge;
mod mail;
mod new_role;
mod permission;
mod profile;
#[cfg(test)]
mod reads;
mod role;
mod schema;
mod service_account;
mod session;
mod signing_key;
mod throttle;
mod throttle_attempt;
mod user;
mod user_import;
mod user_keys;

use db::Migrations;
use diesel_migrations::embed_migrations;

pub(crate) use self::{
    account_code::{
        account_code, account_code_count_tries, account_code_delete, account_code_delete_expired, account_code_replace,
        account_codes_delete, account_codes_expired,
    },
    audit::{audit_delete_before, audit_insert, audit_list},
    catalog::{Entry, resource_set_owner, resources_count_of, role_code_names},
    email::{
        NewEmail, email_reminder, email_reminder_delete, email_reminder_set, email_requirement, email_requirement_set,
        email_requirement_turn_off, email_undo_insert, email_undo_is_of_another, email_undos, email_undos_delete,
        email_undos_delete_before, email_undos_delete_since, taken_key, user_give_up_email, user_record_email_proof,
        user_set_email, user_verify_email,
    },
    export::{devices_of_sessions, mailed_codes_of_user, mails_of_user},
    factor::{
        recovery_code_take, recovery_code_times, recovery_codes_delete, recovery_codes_delete_since,
        recovery_codes_replace, sessions_forget_second_factor, totp_factor_delete, totp_factor_insert,
        totp_factor_reseal, totp_factor_use, totp_factors, totp_factors_after, totp_factors_delete,
        totp_factors_delete_unconfirmed, user_set_has_second_factor,
    },
    feed::{
        FeedRow, feed_after, feed_event, feed_head, feed_head_advance, feed_head_insert, feed_head_lock,
        feed_head_set_epoch, feed_head_set_max_access_token_seconds, feed_purge, feed_restart, feed_upsert,
    },
    grant::{
        other_active_user_has_role, permission_id, permission_names, role_holders_delete, role_id, role_lock,
        role_lock_by_code_name, role_permission_insert, role_permission_names, role_permissions_count,
        role_permissions_delete, roles_with_permissions, user_holdings_delete, user_permission_grant,
        user_permission_revoke, user_role_assign, user_role_unassign, users_with_permissions, users_with_role,
    },
    groups::{
        SessionRoom, audit_insert_together, sessions_insert_together, throttles_record_successes, users_lock_together,
        users_record_logins,
    },
    guest::{
        guest_credential, guest_credential_delete, guest_credential_insert, guest_credential_renew, guest_postpone,
        guests_due, sessions_last_use_time,
    },
    holding::{
        SessionWithHoldings, UserWithHoldings, holdings, session_insert, sessions_with_holdings, token_holdings,
        users_with_holdings,
    },
    login_challenge::{
        login_challenge, login_challenge_delete, login_challenge_email_proven, login_challenge_insert,
        login_challenges_delete, login_challenges_delete_expired, login_challenges_of,
    },
    mail::{
        StoredRequest, mail_claim, mail_delete, mail_insert, mail_is_due, mail_postpone, mail_quota_delete,
        mail_quota_insert, mail_quota_outside, mail_quota_used, mail_request_insert, mail_request_take,
        mail_requests_before, mail_requests_delete, mail_requests_exist, mails_count, mails_count_untried,
        mails_delete_before, mails_delete_of,
    },
    new_role::{new_role_permission_take, new_role_permissions_clear, new_role_permissions_clear_of},
    permission::{
        permission_by_name, permission_delete, permission_describe, permission_insert, permission_set_declared,
        permissions_count_of, permissions_list, permissions_of, permissions_owners,
    },
    profile::{ProfileValues, user_set_active, user_set_password, user_set_profile, user_upgrade, users_list},
    role::{roles_named, user_role_insert, user_role_names, users_with_role_exist},
    service_account::{
        service_account_by_client_id, service_account_delete, service_account_describe,
        service_account_forget_previous, service_account_insert, service_account_record_token,
        service_account_set_secret, service_accounts_list, service_user_insert,
    },
    session::{
        Dead, DueSession, NewSession, SessionUse, TokenUse, device_uses, devices_of_user, session_by_id,
        session_delete, session_end, session_lock, session_use_token, sessions_count_unended, sessions_dead,
        sessions_due, sessions_end_all, sessions_end_of_all_users, sessions_forget_ended, sessions_forget_origins,
        sessions_list, sessions_postpone, sessions_unended, sessions_use_tokens,
    },
    signing_key::{
        signing_key_activate, signing_key_delete, signing_key_insert, signing_key_reencrypt, signing_key_retire,
        signing_keys_list,
    },
    throttle::{
        Throttle, UNBLOCKED, throttle_delete, throttle_delete_expired, throttle_lock, throttle_take_back,
        throttle_unblock, throttle_update, throttles_beyond, throttles_by_keys, throttles_expired, throttles_outlast,
    },
    throttle_attempt::{Failure, throttles_count, throttles_record_success},
    user::{
        NewUser, user_anonymize, user_by_email, user_by_id, user_by_login, user_insert, user_lock, user_logins,
        user_password_rehash, user_raise_token_version, user_record_login, user_set_force_logout_time,
        user_set_force_logout_time_unless_temporary, user_set_invite_time, user_set_token_version,
    },
    user_import::{
        ImportedPasswordRow, ImportedUserRow, UserRoleRow, emails_taken, imported_password_delete,
        imported_passwords_insert, imported_scheme_after, imported_users_insert, logins_taken, user_import,
        user_import_advance, user_import_insert, user_roles_insert,
    },
    user_keys::{
        StoredKeys, user_forget_unknown_columns, user_release_email_key, user_set_keys, user_stale_keys,
        users_with_stale_keys, users_with_taken_email,
    },
};

/// Migrations of auth-service's database.
pub static MIGRATIONS: Migrations = Migrations {
    sqlite: embed_migrations!("migrations/sqlite"),
    postgres: embed_migrations!("migrations/postgres"),
};
