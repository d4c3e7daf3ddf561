-- Time when the user got the address, if that was after the registration and not by a code.
ALTER TABLE users ADD COLUMN email_set_time INTEGER;

-- Address to which the code was mailed, if it is not the user's: a new one that the user wants to have.
ALTER TABLE account_codes ADD COLUMN email TEXT;

-- Former addresses of users, to which a link was mailed that takes the change back. Until they expire,
-- no other user can have them.
CREATE TABLE email_undos (
    id           BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    user_id      BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email        TEXT    NOT NULL,
    email_folded TEXT    NOT NULL,
    seed         BLOB    NOT NULL,
    create_time  INTEGER NOT NULL,
    expire_time  INTEGER NOT NULL
) STRICT;
CREATE INDEX email_undos_user_id_idx ON email_undos (user_id);
CREATE INDEX email_undos_email_folded_idx ON email_undos (email_folded);
CREATE INDEX email_undos_expire_time_idx ON email_undos (expire_time);

-- Time since when users must verify their address before they log in. At most one row.
CREATE TABLE email_requirement (
    id         INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    start_time INTEGER NOT NULL,
    -- Time when a replica was started without the rule; NULL if none was.
    off_time   INTEGER
) STRICT;

-- Users who registered before that time and still have to verify their address: when they were last
-- reminded.
CREATE TABLE email_reminders (
    user_id     BLOB    PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    remind_time INTEGER NOT NULL
) STRICT;
