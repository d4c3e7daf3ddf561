-- Users whose password hash another system made, until they log in. Passwords are verified by the
-- hash itself; this table says how slow that is.
CREATE TABLE imported_passwords (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- Scheme with its parameters, such as `pbkdf2-sha256:600000`.
    scheme  text NOT NULL
);
CREATE INDEX imported_passwords_scheme_idx ON imported_passwords (scheme);

-- Files from which users were imported, so that an import goes on where it was interrupted.
CREATE TABLE user_imports (
    -- SHA-256 of the file.
    file_digest bytea PRIMARY KEY CHECK (length(file_digest) = 32),
    lines       bigint NOT NULL,
    -- Number of lines that are done, from the first one on.
    done_lines  bigint NOT NULL CHECK (done_lines BETWEEN 0 AND lines),
    -- Number of users that were imported.
    users       bigint NOT NULL,
    start_time  timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);
