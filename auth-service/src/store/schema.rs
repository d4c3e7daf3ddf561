//! The tables, as the scripts in `migrations/` create them.

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{BigInt, Bool, Nullable, Text};

    users (id) {
        id -> Uuid,
        login -> Text,
        login_folded -> Text,
        email -> Text,
        email_folded -> Text,
        password_hash -> Text,
        first_name -> Text,
        last_name -> Text,
        middle_name -> Text,
        is_active -> Bool,
        token_version -> BigInt,
        create_time -> Timestamp,
        update_time -> Timestamp,
        last_login_time -> Nullable<Timestamp>,
        must_change_password -> Bool,
        is_service -> Bool,
        force_logout_time -> Nullable<Timestamp>,
        delete_time -> Nullable<Timestamp>,
        search_folded -> Text,
        email_is_taken -> Bool,
        key_time -> Nullable<Timestamp>,
        locale -> Text,
        email_verify_time -> Nullable<Timestamp>,
        email_set_time -> Nullable<Timestamp>,
        invite_time -> Nullable<Timestamp>,
        min_password_expire_time -> Nullable<Timestamp>,
        is_guest -> Bool,
        has_second_factor -> Bool,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};

    sessions (id) {
        id -> Uuid,
        user_id -> Uuid,
        counter -> BigInt,
        is_used -> Bool,
        rotation_request -> Nullable<Binary>,
        create_time -> Timestamp,
        rotate_time -> Timestamp,
        expire_time -> Timestamp,
        absolute_expire_time -> Timestamp,
        end_time -> Nullable<Timestamp>,
        end_reason -> Nullable<Text>,
        device_id -> Nullable<Uuid>,
        ip_address -> Text,
        user_agent -> Text,
        last_use_time -> Timestamp,
        sweep_time -> Timestamp,
        auth_time -> Nullable<Timestamp>,
        auth_methods -> Nullable<Text>,
        acr -> Nullable<Text>,
    }
}

diesel::table! {
    use base::sql_types::Timestamp;
    use diesel::sql_types::{Binary, Nullable, Text};

    signing_keys (kid) {
        kid -> Text,
        state -> Text,
        public_key -> Binary,
        encrypted_private_key -> Binary,
        create_time -> Timestamp,
        activate_time -> Timestamp,
        retire_time -> Nullable<Timestamp>,
        expire_time -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::Text;

    roles (id) {
        id -> Uuid,
        code_name -> Text,
        name -> Text,
        description -> Text,
        create_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::Uuid;

    user_roles (user_id, role_id) {
        user_id -> Uuid,
        role_id -> Uuid,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{Nullable, Text};

    resources (id) {
        id -> Uuid,
        code_name -> Text,
        name -> Text,
        description -> Text,
        owner -> Nullable<Text>,
        create_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::Text;

    actions (id) {
        id -> Uuid,
        code_name -> Text,
        name -> Text,
        description -> Text,
        create_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{Bool, Text};

    permissions (id) {
        id -> Uuid,
        resource_id -> Uuid,
        action_id -> Uuid,
        name -> Text,
        description -> Text,
        is_declared -> Bool,
        create_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::Uuid;

    role_permissions (role_id, permission_id) {
        role_id -> Uuid,
        permission_id -> Uuid,
    }
}

diesel::table! {
    use base::sql_types::Uuid;

    user_permissions (user_id, permission_id) {
        user_id -> Uuid,
        permission_id -> Uuid,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{Binary, Nullable, Text};

    service_accounts (user_id) {
        user_id -> Uuid,
        client_id -> Text,
        description -> Text,
        secret_hash -> Binary,
        secret_time -> Timestamp,
        previous_secret_hash -> Nullable<Binary>,
        previous_expire_time -> Nullable<Timestamp>,
        create_time -> Timestamp,
        last_token_time -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::Binary;

    guest_credentials (user_id) {
        user_id -> Uuid,
        mac -> Binary,
        create_time -> Timestamp,
        use_time -> Timestamp,
        sweep_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::Uuid;
    use diesel::sql_types::Text;

    imported_passwords (user_id) {
        user_id -> Uuid,
        scheme -> Text,
    }
}

diesel::table! {
    use base::sql_types::Timestamp;
    use diesel::sql_types::{BigInt, Binary};

    user_imports (file_digest) {
        file_digest -> Binary,
        lines -> BigInt,
        done_lines -> BigInt,
        users -> BigInt,
        start_time -> Timestamp,
        update_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::Uuid;

    new_role_permissions (role_id, permission_id) {
        role_id -> Uuid,
        permission_id -> Uuid,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{BigInt, Bool, Nullable, Text};

    login_challenges (id) {
        id -> Uuid,
        user_id -> Uuid,
        token_version -> BigInt,
        is_enrolment -> Bool,
        needs_email_code -> Bool,
        audience -> Text,
        device_id -> Nullable<Uuid>,
        new_password_hash -> Nullable<Text>,
        create_time -> Timestamp,
        expire_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{BigInt, Binary, Nullable, Text};

    totp_factors (id) {
        id -> Uuid,
        user_id -> Uuid,
        display_name -> Text,
        sealed_secret -> Binary,
        last_step -> BigInt,
        challenge_id -> Nullable<Uuid>,
        create_time -> Timestamp,
        confirm_time -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::Binary;

    recovery_codes (user_id, mac) {
        user_id -> Uuid,
        mac -> Binary,
        create_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{BigInt, Binary, Nullable, Text};

    account_codes (user_id, purpose) {
        user_id -> Uuid,
        purpose -> Text,
        seed -> Binary,
        typed_tries -> BigInt,
        create_time -> Timestamp,
        expire_time -> Timestamp,
        email -> Nullable<Text>,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{Binary, Text};

    email_undos (id) {
        id -> Uuid,
        user_id -> Uuid,
        email -> Text,
        email_folded -> Text,
        seed -> Binary,
        create_time -> Timestamp,
        expire_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::Timestamp;
    use diesel::sql_types::{Nullable, SmallInt};

    email_requirement (id) {
        id -> SmallInt,
        start_time -> Timestamp,
        off_time -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};

    email_reminders (user_id) {
        user_id -> Uuid,
        remind_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::Binary;

    mail_requests (id) {
        id -> Uuid,
        create_time -> Timestamp,
        sealed -> Binary,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{BigInt, Text};

    mail_outbox (id) {
        id -> Uuid,
        user_id -> Uuid,
        kind -> Text,
        recipient -> Text,
        locale -> Text,
        content -> Text,
        attempts -> BigInt,
        create_time -> Timestamp,
        attempt_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::Binary;

    mail_quota (id) {
        id -> Uuid,
        recipient -> Binary,
        create_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::Timestamp;
    use diesel::sql_types::{BigInt, Binary};

    login_throttle (key) {
        key -> Binary,
        failures -> BigInt,
        blocked_until -> Timestamp,
        expire_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::Uuid;
    use diesel::sql_types::{BigInt, SmallInt};

    feed_head (id) {
        id -> SmallInt,
        epoch -> Uuid,
        sequence -> BigInt,
        max_access_token_seconds -> BigInt,
    }
}

diesel::table! {
    use base::sql_types::Timestamp;
    use diesel::sql_types::{BigInt, Binary, Nullable, Text};

    access_feed (sequence) {
        sequence -> BigInt,
        kind -> Text,
        subject -> Text,
        event -> Binary,
        expire_time -> Nullable<Timestamp>,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{Nullable, Text};

    audit_events (id) {
        id -> Uuid,
        event_time -> Timestamp,
        action -> Text,
        outcome -> Text,
        reason -> Text,
        actor_user_id -> Nullable<Uuid>,
        actor_client_id -> Text,
        target_type -> Text,
        target_id -> Text,
        subject_user_id -> Nullable<Uuid>,
        ip_address -> Text,
        user_agent -> Text,
        request_id -> Text,
        details -> Text,
    }
}

diesel::joinable!(imported_passwords -> users (user_id));
diesel::joinable!(permissions -> resources (resource_id));
diesel::joinable!(permissions -> actions (action_id));
diesel::joinable!(role_permissions -> roles (role_id));
diesel::joinable!(role_permissions -> permissions (permission_id));
diesel::joinable!(service_accounts -> users (user_id));
diesel::joinable!(sessions -> users (user_id));
diesel::joinable!(user_permissions -> permissions (permission_id));
diesel::joinable!(user_permissions -> users (user_id));
diesel::joinable!(user_roles -> roles (role_id));
diesel::joinable!(user_roles -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(
    actions,
    imported_passwords,
    new_role_permissions,
    permissions,
    resources,
    role_permissions,
    roles,
    service_accounts,
    sessions,
    user_permissions,
    user_roles,
    users,
);
