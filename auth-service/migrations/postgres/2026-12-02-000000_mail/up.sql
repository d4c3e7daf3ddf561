ALTER TABLE users
    -- Language of mails to the user, a BCP 47 tag; empty if it is not known.
    ADD COLUMN locale text NOT NULL DEFAULT '',
    -- Time when the user last proved that they receive mail at `email`.
    ADD COLUMN email_verify_time timestamptz;

-- Codes that were mailed to users. The code itself is derived from the seed and the server secret, so
-- that it cannot be read from the database.
CREATE TABLE account_codes (
    user_id     uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose     text        NOT NULL,
    seed        bytea       NOT NULL,
    -- Number of times that a short code was tried.
    typed_tries bigint      NOT NULL CHECK (typed_tries >= 0),
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    PRIMARY KEY (user_id, purpose)
);
CREATE INDEX account_codes_expire_time_idx ON account_codes (expire_time);

-- Requests of callers who are not signed in. A job looks the user up, so that a call takes as long for
-- a user who exists as for one who does not.
CREATE TABLE mail_requests (
    id          uuid        PRIMARY KEY,
    create_time timestamptz NOT NULL,
    -- The identifier may be a password that was typed into the wrong field, so it is encrypted.
    sealed      bytea       NOT NULL
);

-- Mails waiting to be sent.
CREATE TABLE mail_outbox (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL,
    kind         text        NOT NULL,
    recipient    text        NOT NULL,
    locale       text        NOT NULL,
    -- Content, as JSON.
    content      text        NOT NULL,
    attempts     bigint      NOT NULL CHECK (attempts >= 0),
    create_time  timestamptz NOT NULL,
    -- Time of the next attempt. During an attempt, the time from which another replica may try.
    attempt_time timestamptz NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX mail_outbox_attempt_time_idx ON mail_outbox (attempt_time, create_time);
CREATE INDEX mail_outbox_user_id_idx ON mail_outbox (user_id);

-- Mails that others have asked for, by the HMAC of the address. They are limited.
CREATE TABLE mail_quota (
    id          uuid        PRIMARY KEY,
    recipient   bytea       NOT NULL,
    create_time timestamptz NOT NULL
);
CREATE INDEX mail_quota_recipient_idx ON mail_quota (recipient, create_time);
CREATE INDEX mail_quota_create_time_idx ON mail_quota (create_time);
