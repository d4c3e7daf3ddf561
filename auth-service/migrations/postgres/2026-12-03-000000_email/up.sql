-- Time when the user got the address, if that was after the registration and not by a code.
ALTER TABLE users ADD COLUMN email_set_time timestamptz;

-- Address to which the code was mailed, if it is not the user's: a new one that the user wants to have.
ALTER TABLE account_codes ADD COLUMN email text;

-- Former addresses of users, to which a link was mailed that takes the change back. Until they expire,
-- no other user can have them.
CREATE TABLE email_undos (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email        text        NOT NULL,
    email_folded text        NOT NULL,
    seed         bytea       NOT NULL,
    create_time  timestamptz NOT NULL,
    expire_time  timestamptz NOT NULL
);
CREATE INDEX email_undos_user_id_idx ON email_undos (user_id);
CREATE INDEX email_undos_email_folded_idx ON email_undos (email_folded);
CREATE INDEX email_undos_expire_time_idx ON email_undos (expire_time);

-- Time since when users must verify their address before they log in. At most one row.
CREATE TABLE email_requirement (
    id         smallint    PRIMARY KEY CHECK (id = 1),
    start_time timestamptz NOT NULL,
    -- Time when a replica was started without the rule; NULL if none was.
    off_time   timestamptz
);

-- Users who registered before that time and still have to verify their address: when they were last
-- reminded.
CREATE TABLE email_reminders (
    user_id     uuid        PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    remind_time timestamptz NOT NULL
);
