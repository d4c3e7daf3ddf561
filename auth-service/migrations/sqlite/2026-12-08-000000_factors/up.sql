-- Whether the user has a confirmed second factor, so that a login without one reads nothing more.
ALTER TABLE users ADD COLUMN has_second_factor INTEGER NOT NULL DEFAULT 0 CHECK (has_second_factor IN (0, 1));

-- Short-lived proofs that a login has passed its first factor. Each is good for one session.
CREATE TABLE login_challenges (
    id                BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    user_id           BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Token version of the user at that time. A higher one makes the challenge invalid.
    token_version     INTEGER NOT NULL,
    -- Whether the user has no second factor yet, and has to add one.
    is_enrolment      INTEGER NOT NULL CHECK (is_enrolment IN (0, 1)),
    -- Whether a mailed code must be entered before a factor can be added.
    needs_email_code  INTEGER NOT NULL CHECK (needs_email_code IN (0, 1)),
    audience          TEXT    NOT NULL,
    -- Device of the login, if the user is known to use it.
    device_id         BLOB,
    -- Hash of the password that replaces the present one; NULL if none does.
    new_password_hash TEXT,
    create_time       INTEGER NOT NULL,
    expire_time       INTEGER NOT NULL
) STRICT;
CREATE INDEX login_challenges_user_id_idx ON login_challenges (user_id);
CREATE INDEX login_challenges_expire_time_idx ON login_challenges (expire_time);

-- Authenticator apps of users (TOTP, RFC 6238).
CREATE TABLE totp_factors (
    id            BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    user_id       BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    display_name  TEXT    NOT NULL,
    -- Encrypted with a key that is not in the database.
    sealed_secret BLOB    NOT NULL,
    -- Time step of the last code that was accepted. Codes of it and of earlier ones are refused.
    last_step     INTEGER NOT NULL,
    -- Challenge of the login that adds the factor; NULL if a signed-in user does.
    challenge_id  BLOB,
    create_time   INTEGER NOT NULL,
    -- NULL until a code has shown that the app has the secret.
    confirm_time  INTEGER
) STRICT;
CREATE INDEX totp_factors_user_id_idx ON totp_factors (user_id);
CREATE INDEX totp_factors_unconfirmed_idx ON totp_factors (create_time) WHERE confirm_time IS NULL;

-- Codes for users who have lost their second factor. Each is good once.
CREATE TABLE recovery_codes (
    user_id     BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- HMAC of the code, with a key that is not in the database.
    mac         BLOB    NOT NULL,
    create_time INTEGER NOT NULL,
    PRIMARY KEY (user_id, mac)
) STRICT;
