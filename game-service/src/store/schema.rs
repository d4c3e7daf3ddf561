//! The tables, as created by `migrations/`.

diesel::table! {
    use base::sql_types::Uuid;
    use diesel::sql_types::{BigInt, Bool, Nullable, Text};

    // The column `revision` is left out here. Triggers write it.
    players (id) {
        id -> Uuid,
        login -> Text,
        is_deleted -> Bool,
        name_epoch -> Nullable<Uuid>,
        name_sequence -> Nullable<BigInt>,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{BigInt, Bool, Nullable, Text};

    games (id) {
        id -> Uuid,
        opponent -> Text,
        creator_id -> Uuid,
        x_player_id -> Nullable<Uuid>,
        o_player_id -> Nullable<Uuid>,
        board -> Text,
        state -> Text,
        winner -> Nullable<Text>,
        version -> BigInt,
        create_time -> Timestamp,
        update_time -> Timestamp,
        finish_time -> Nullable<Timestamp>,
        end_reason -> Nullable<Text>,
        create_request -> Nullable<Uuid>,
        expire_time -> Nullable<Timestamp>,
        sweep_time -> Timestamp,
        moves -> Nullable<Text>,
        is_ranked -> Bool,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::{Bool, Nullable, Text};

    game_results (user_id, game_id) {
        user_id -> Uuid,
        game_id -> Uuid,
        result -> Text,
        opponent_id -> Nullable<Uuid>,
        finish_time -> Timestamp,
        end_reason -> Text,
        counts -> Nullable<Bool>,
    }
}

diesel::table! {
    use base::sql_types::Uuid;

    older_results (game_id) {
        game_id -> Uuid,
    }
}

diesel::table! {
    use base::sql_types::{Timestamp, Uuid};
    use diesel::sql_types::BigInt;

    // The column `revision` is left out here. Triggers write it.
    player_stats (user_id) {
        user_id -> Uuid,
        wins -> BigInt,
        losses -> BigInt,
        draws -> BigInt,
        last_finish_time -> Timestamp,
    }
}

diesel::table! {
    use base::sql_types::Uuid;
    use diesel::sql_types::{BigInt, Integer};

    feed_cursor (id) {
        id -> Integer,
        epoch -> Uuid,
        sequence -> BigInt,
    }
}

diesel::joinable!(player_stats -> players (user_id));
diesel::allow_tables_to_appear_in_same_query!(players, player_stats);
