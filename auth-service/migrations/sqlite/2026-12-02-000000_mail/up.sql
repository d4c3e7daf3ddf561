-- Language of mails to the user, a BCP 47 tag; empty if it is not known.
ALTER TABLE users ADD COLUMN locale TEXT NOT NULL DEFAULT '';
-- Time when the user last proved that they receive mail at `email`.
ALTER TABLE users ADD COLUMN email_verify_time INTEGER;

-- Codes that were mailed to users. The code itself is derived from the seed and the server secret, so
-- that it cannot be read from the database.
CREATE TABLE account_codes (
    user_id     BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose     TEXT    NOT NULL,
    seed        BLOB    NOT NULL,
    -- Number of times that a short code was tried.
    typed_tries INTEGER NOT NULL CHECK (typed_tries >= 0),
    create_time INTEGER NOT NULL,
    expire_time INTEGER NOT NULL,
    PRIMARY KEY (user_id, purpose)
) STRICT;
CREATE INDEX account_codes_expire_time_idx ON account_codes (expire_time);

-- Requests of callers who are not signed in. A job looks the user up, so that a call takes as long for
-- a user who exists as for one who does not.
CREATE TABLE mail_requests (
    id          BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    create_time INTEGER NOT NULL,
    -- The identifier may be a password that was typed into the wrong field, so it is encrypted.
    sealed      BLOB    NOT NULL
) STRICT;

-- Mails waiting to be sent.
CREATE TABLE mail_outbox (
    id           BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    user_id      BLOB    NOT NULL,
    kind         TEXT    NOT NULL,
    recipient    TEXT    NOT NULL,
    locale       TEXT    NOT NULL,
    -- Content, as JSON.
    content      TEXT    NOT NULL,
    attempts     INTEGER NOT NULL CHECK (attempts >= 0),
    create_time  INTEGER NOT NULL,
    -- Time of the next attempt. During an attempt, the time from which another one may begin.
    attempt_time INTEGER NOT NULL
) STRICT;
CREATE INDEX mail_outbox_attempt_time_idx ON mail_outbox (attempt_time, create_time);
CREATE INDEX mail_outbox_user_id_idx ON mail_outbox (user_id);

-- Mails that others have asked for, by the HMAC of the address. They are limited.
CREATE TABLE mail_quota (
    id          BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    recipient   BLOB    NOT NULL,
    create_time INTEGER NOT NULL
) STRICT;
CREATE INDEX mail_quota_recipient_idx ON mail_quota (recipient, create_time);
CREATE INDEX mail_quota_create_time_idx ON mail_quota (create_time);
