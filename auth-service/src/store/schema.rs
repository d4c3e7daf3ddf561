//! The tables, as `migrations/` makes them.

diesel::table! {
    use diesel::sql_types::{BigInt, Bool, Nullable, Text};
    use shared::db::sql_types::{Timestamp, Uuid};

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
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};
    use shared::db::sql_types::{Timestamp, Uuid};

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
    }
}

diesel::table! {
    use diesel::sql_types::{Binary, Text};
    use shared::db::sql_types::Timestamp;

    signing_keys (kid) {
        kid -> Text,
        state -> Text,
        public_key -> Binary,
        encrypted_private_key -> Binary,
        create_time -> Timestamp,
    }
}

diesel::table! {
    use diesel::sql_types::Text;
    use shared::db::sql_types::Uuid;

    roles (id) {
        id -> Uuid,
        code_name -> Text,
        name -> Text,
        description -> Text,
    }
}

diesel::table! {
    use shared::db::sql_types::Uuid;

    user_roles (user_id, role_id) {
        user_id -> Uuid,
        role_id -> Uuid,
    }
}

diesel::joinable!(user_roles -> roles (role_id));
diesel::joinable!(user_roles -> users (user_id));
diesel::joinable!(sessions -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(users, sessions, roles, user_roles);
