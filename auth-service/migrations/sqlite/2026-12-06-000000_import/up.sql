-- Users whose password hash another system made, until they log in. Passwords are verified by the
-- hash itself; this table says how slow that is.
CREATE TABLE imported_passwords (
    user_id BLOB PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Scheme with its parameters, such as `pbkdf2-sha256:600000`.
    scheme  TEXT NOT NULL
) STRICT;
CREATE INDEX imported_passwords_scheme_idx ON imported_passwords (scheme);

-- Files from which users were imported, so that an import goes on where it was interrupted.
CREATE TABLE user_imports (
    -- SHA-256 of the file.
    file_digest BLOB PRIMARY KEY NOT NULL CHECK (length(file_digest) = 32),
    lines       INTEGER NOT NULL,
    -- Number of lines that are done, from the first one on.
    done_lines  INTEGER NOT NULL CHECK (done_lines BETWEEN 0 AND lines),
    -- Number of users that were imported.
    users       INTEGER NOT NULL,
    start_time  INTEGER NOT NULL,
    update_time INTEGER NOT NULL
) STRICT;
