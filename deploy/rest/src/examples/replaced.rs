//! Values that replace the usual ones in the example of a single request or response, because those
//! would contradict the RPC.

/// Marks a field that the example leaves out.
pub(super) const NOT_SET: &str = "";

const TWO_MOVES: &str = r#"[
    {
        "cell": 4,
        "mark": "MARK_X",
        "userId": "0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42",
        "createTime": "2026-05-04T12:31:10Z"
    },
    {
        "cell": 0,
        "mark": "MARK_O",
        "userId": "0190b6e5-1c20-7d41-9a3b-7f2d8e6c5b10",
        "createTime": "2026-05-04T12:31:40Z"
    }
]"#;

/// Replaced values as JSON, by the name of the request or response and the path to the field.
pub(super) const VALUES: &[(&str, &str)] = &[
    // A role, a permission or a user after the change.
    ("AssignRoleResponse.roles", r#"["moderator", "player"]"#),
    ("RevokePermissionResponse.permissions", "[]"),
    ("CreatePermissionResponse.permission.is_declared", "false"),
    ("CreateResourceResponse.resource.owner", r#""""#),
    ("CreateServiceAccountResponse.service_account.last_token_time", NOT_SET),
    ("CreateUserResponse.user.must_change_password", "true"),
    ("CreateUserResponse.user.last_login_time", NOT_SET),
    ("CreateUserResponse.user.locale", r#""""#),
    ("InviteUserResponse.user.last_login_time", NOT_SET),
    ("InviteUserResponse.user.invite_time", r#""2026-05-04T12:30:00Z""#),
    ("DeactivateUserResponse.user.is_active", "false"),
    ("ConfirmEmailChangeResponse.user.email", r#""ann@example.org""#),
    (
        "ConfirmEmailChangeResponse.user.email_verify_time",
        r#""2026-05-04T12:35:00Z""#,
    ),
    (
        "VerifyEmailResponse.user.email_verify_time",
        r#""2026-05-04T12:35:00Z""#,
    ),
    ("ListUserSessionsResponse.sessions.is_current", "false"),
    // Logins that need no second factor, and a factor that is not confirmed yet.
    ("RegisterResponse.challenge", NOT_SET),
    ("LoginResponse.challenge", NOT_SET),
    ("ResetPasswordResponse.challenge", NOT_SET),
    ("CreateTotpFactorResponse.factor.confirm_time", NOT_SET),
    // A refresh token and a key that replace the one in the request.
    (
        "RotateTokensResponse.tokens.refresh_token",
        r#""v1.0190b6e4-a0b1-7c55-b1d2-3e4f5a6b7c8d.2.bTJqYzV3ZTRoN3hwMXFzOWtiNnR5bjN2ZjB1bGd6ZDg""#,
    ),
    (
        "RetireSigningKeyResponse.active_key.kid",
        r#""kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k""#,
    ),
    ("RotateSigningKeyResponse.signing_key.state", r#""STATE_NEXT""#),
    // A game against the computer in which the caller has the first move.
    ("CreateGameResponse.game.opponent", r#""OPPONENT_COMPUTER""#),
    ("CreateGameResponse.game.board", r#"".........""#),
    ("CreateGameResponse.game.moves", "[]"),
    ("CreateGameResponse.game.version", r#""1""#),
    (
        "CreateGameResponse.game.turn_user_id",
        r#""0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42""#,
    ),
    ("CreateGameResponse.game.o_user_id", r#""""#),
    ("CreateGameResponse.game.o_login", r#""""#),
    ("CreateGameResponse.game.last_move_time", NOT_SET),
    ("CreateGameResponse.game.expire_time", r#""2026-05-05T12:30:00Z""#),
    // A game that has just been joined.
    ("JoinGameResponse.game.board", r#"".........""#),
    ("JoinGameResponse.game.moves", "[]"),
    ("JoinGameResponse.game.version", r#""2""#),
    (
        "JoinGameResponse.game.turn_user_id",
        r#""0190b6e4-9f6d-7c3a-8d2e-5b1f0c9a7e42""#,
    ),
    ("JoinGameResponse.game.last_move_time", NOT_SET),
    ("JoinGameResponse.game.expire_time", r#""2026-05-05T12:30:40Z""#),
    // Games that wait for a second player.
    (
        "ListOpenGamesResponse.games.state",
        r#""GAME_STATE_WAITING_FOR_PLAYER""#,
    ),
    ("ListOpenGamesResponse.games.board", r#"".........""#),
    ("ListOpenGamesResponse.games.moves", "[]"),
    ("ListOpenGamesResponse.games.version", r#""1""#),
    ("ListOpenGamesResponse.games.turn_user_id", r#""""#),
    ("ListOpenGamesResponse.games.o_user_id", r#""""#),
    ("ListOpenGamesResponse.games.o_login", r#""""#),
    ("ListOpenGamesResponse.games.last_move_time", NOT_SET),
    ("ListOpenGamesResponse.games.expire_time", r#""2026-05-05T12:30:00Z""#),
    // A game that was cancelled before a second player had joined.
    ("CancelGameResponse.game.state", r#""GAME_STATE_CANCELLED""#),
    ("CancelGameResponse.game.end_reason", r#""END_REASON_CANCELLATION""#),
    ("CancelGameResponse.game.board", r#"".........""#),
    ("CancelGameResponse.game.moves", "[]"),
    ("CancelGameResponse.game.version", r#""2""#),
    ("CancelGameResponse.game.turn_user_id", r#""""#),
    ("CancelGameResponse.game.o_user_id", r#""""#),
    ("CancelGameResponse.game.o_login", r#""""#),
    ("CancelGameResponse.game.last_move_time", NOT_SET),
    ("CancelGameResponse.game.expire_time", NOT_SET),
    ("CancelGameResponse.game.finish_time", r#""2026-05-04T12:35:00Z""#),
    // Games that ended because the player of X resigned.
    ("ResignGameResponse.game.state", r#""GAME_STATE_WON""#),
    ("ResignGameResponse.game.end_reason", r#""END_REASON_RESIGNATION""#),
    ("ResignGameResponse.game.winner_mark", r#""MARK_O""#),
    (
        "ResignGameResponse.game.winner_user_id",
        r#""0190b6e5-1c20-7d41-9a3b-7f2d8e6c5b10""#,
    ),
    ("ResignGameResponse.game.board", r#""O...X....""#),
    ("ResignGameResponse.game.moves", TWO_MOVES),
    ("ResignGameResponse.game.version", r#""5""#),
    ("ResignGameResponse.game.turn_user_id", r#""""#),
    ("ResignGameResponse.game.last_move_time", r#""2026-05-04T12:31:40Z""#),
    ("ResignGameResponse.game.expire_time", NOT_SET),
    ("ResignGameResponse.game.finish_time", r#""2026-05-04T12:35:00Z""#),
    ("ListFinishedGamesResponse.games.state", r#""GAME_STATE_WON""#),
    (
        "ListFinishedGamesResponse.games.end_reason",
        r#""END_REASON_RESIGNATION""#,
    ),
    ("ListFinishedGamesResponse.games.winner_mark", r#""MARK_O""#),
    (
        "ListFinishedGamesResponse.games.winner_user_id",
        r#""0190b6e5-1c20-7d41-9a3b-7f2d8e6c5b10""#,
    ),
    ("ListFinishedGamesResponse.games.board", r#""O...X....""#),
    ("ListFinishedGamesResponse.games.moves", TWO_MOVES),
    ("ListFinishedGamesResponse.games.version", r#""5""#),
    ("ListFinishedGamesResponse.games.turn_user_id", r#""""#),
    (
        "ListFinishedGamesResponse.games.last_move_time",
        r#""2026-05-04T12:31:40Z""#,
    ),
    ("ListFinishedGamesResponse.games.expire_time", NOT_SET),
    (
        "ListFinishedGamesResponse.games.finish_time",
        r#""2026-05-04T12:35:00Z""#,
    ),
];
