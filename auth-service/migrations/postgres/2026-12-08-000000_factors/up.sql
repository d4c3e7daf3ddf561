-- Whether the user has a confirmed second factor, so that a login without one reads nothing more.
ALTER TABLE users ADD COLUMN has_second_factor boolean NOT NULL DEFAULT false;

-- Short-lived proofs that a login has passed its first factor. Each is good for one session.
CREATE TABLE login_challenges (
    id                uuid PRIMARY KEY,
    user_id           uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Token version of the user at that time. A higher one makes the challenge invalid.
    token_version     bigint NOT NULL,
    -- Whether the user has no second factor yet, and has to add one.
    is_enrolment      boolean NOT NULL,
    -- Whether a mailed code must be entered before a factor can be added.
    needs_email_code  boolean NOT NULL,
    audience          text NOT NULL,
    -- Device of the login, if the user is known to use it.
    device_id         uuid,
    -- Hash of the password that replaces the present one; NULL if none does.
    new_password_hash text,
    create_time       timestamptz NOT NULL,
    expire_time       timestamptz NOT NULL
);
CREATE INDEX login_challenges_user_id_idx ON login_challenges (user_id);
CREATE INDEX login_challenges_expire_time_idx ON login_challenges (expire_time);

-- Authenticator apps of users (TOTP, RFC 6238).
CREATE TABLE totp_factors (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    display_name  text NOT NULL,
    -- Encrypted with a key that is not in the database.
    sealed_secret bytea NOT NULL,
    -- Time step of the last code that was accepted. Codes of it and of earlier ones are refused.
    last_step     bigint NOT NULL,
    -- Challenge of the login that adds the factor; NULL if a signed-in user does.
    challenge_id  uuid,
    create_time   timestamptz NOT NULL,
    -- NULL until a code has shown that the app has the secret.
    confirm_time  timestamptz
);
CREATE INDEX totp_factors_user_id_idx ON totp_factors (user_id);
CREATE INDEX totp_factors_unconfirmed_idx ON totp_factors (create_time) WHERE confirm_time IS NULL;

-- Codes for users who have lost their second factor. Each is good once.
CREATE TABLE recovery_codes (
    user_id     uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- HMAC of the code, with a key that is not in the database.
    mac         bytea NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (user_id, mac)
);
