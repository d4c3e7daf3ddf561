CREATE TABLE users (
    id              BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    login           TEXT    NOT NULL,
    -- Login and e-mail address in the form in which they are compared: one case and one Unicode form.
    login_folded    TEXT    NOT NULL UNIQUE,
    email           TEXT    NOT NULL,
    email_folded    TEXT    NOT NULL UNIQUE,
    -- A PHC string (argon2id).
    password_hash   TEXT    NOT NULL,
    first_name      TEXT    NOT NULL,
    last_name       TEXT    NOT NULL,
    middle_name     TEXT    NOT NULL,
    is_active       INTEGER NOT NULL CHECK (is_active IN (0, 1)),
    -- Increases with every change of the user's rights or identity. Tokens carry it.
    token_version   INTEGER NOT NULL CHECK (token_version >= 1),
    create_time     INTEGER NOT NULL,
    update_time     INTEGER NOT NULL,
    last_login_time INTEGER
) STRICT;

-- One row per session, with the counter of its current refresh token.
CREATE TABLE sessions (
    id                   BLOB    PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    user_id              BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    counter              INTEGER NOT NULL CHECK (counter >= 1),
    -- True if the refresh token with this counter has been used.
    is_used              INTEGER NOT NULL CHECK (is_used IN (0, 1)),
    -- SHA-256 of the request_id of the last rotation.
    rotation_request     BLOB,
    create_time          INTEGER NOT NULL,
    rotate_time          INTEGER NOT NULL,
    expire_time          INTEGER NOT NULL,
    -- A rotation never sets expire_time later than this.
    absolute_expire_time INTEGER NOT NULL,
    end_time             INTEGER,
    end_reason           TEXT    CHECK (end_reason IN ('logout', 'refresh_token_reused')),
    CHECK ((end_time IS NULL) = (end_reason IS NULL))
) STRICT;
CREATE INDEX sessions_user_id_idx ON sessions (user_id);

CREATE TABLE signing_keys (
    -- RFC 7638 thumbprint.
    kid                   TEXT    PRIMARY KEY NOT NULL,
    state                 TEXT    NOT NULL CHECK (state IN ('next', 'active', 'retired')),
    public_key            BLOB    NOT NULL,
    -- PKCS#8, encrypted with a key that is not in the database.
    encrypted_private_key BLOB    NOT NULL,
    create_time           INTEGER NOT NULL
) STRICT;
-- At most one key is in state active.
CREATE UNIQUE INDEX signing_keys_active_key ON signing_keys (state) WHERE state = 'active';

CREATE TABLE roles (
    id          BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    code_name   TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL
) STRICT;
INSERT INTO roles (id, code_name, name, description) VALUES
    (x'00000000000070008000000000000001', 'superuser', 'Superuser', 'Holds every permission.'),
    (x'00000000000070008000000000000002', 'admin', 'Administrator', 'Administers users, sessions, roles and keys.'),
    (x'00000000000070008000000000000003', 'player', 'Player', 'Plays. Every registered user is one.'),
    (x'00000000000070008000000000000004', 'service', 'Service', 'Another service.');

CREATE TABLE user_roles (
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role_id BLOB NOT NULL REFERENCES roles (id) ON DELETE RESTRICT,
    PRIMARY KEY (user_id, role_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_roles_role_id_idx ON user_roles (role_id);
