CREATE TABLE users (
    id              uuid        PRIMARY KEY,
    login           text        NOT NULL,
    -- Login and e-mail address in the form in which they are compared: one case and one Unicode form.
    login_folded    text        NOT NULL CONSTRAINT users_login_folded_key UNIQUE,
    email           text        NOT NULL,
    email_folded    text        NOT NULL CONSTRAINT users_email_folded_key UNIQUE,
    -- A PHC string (argon2id).
    password_hash   text        NOT NULL,
    first_name      text        NOT NULL,
    last_name       text        NOT NULL,
    middle_name     text        NOT NULL,
    is_active       boolean     NOT NULL,
    -- Increases with every change of the user's rights or identity. Tokens carry it.
    token_version   bigint      NOT NULL CHECK (token_version >= 1),
    create_time     timestamptz NOT NULL,
    update_time     timestamptz NOT NULL,
    last_login_time timestamptz
);

-- One row per session, with the counter of its current refresh token.
CREATE TABLE sessions (
    id                   uuid        PRIMARY KEY,
    user_id              uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    counter              bigint      NOT NULL CHECK (counter >= 1),
    -- True if the refresh token with this counter has been used.
    is_used              boolean     NOT NULL,
    -- SHA-256 of the request_id of the last rotation.
    rotation_request     bytea,
    create_time          timestamptz NOT NULL,
    rotate_time          timestamptz NOT NULL,
    expire_time          timestamptz NOT NULL,
    -- A rotation never sets expire_time later than this.
    absolute_expire_time timestamptz NOT NULL,
    end_time             timestamptz,
    end_reason           text        CHECK (end_reason IN ('logout', 'refresh_token_reused')),
    CHECK ((end_time IS NULL) = (end_reason IS NULL))
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id);

CREATE TABLE signing_keys (
    -- RFC 7638 thumbprint.
    kid                   text        PRIMARY KEY,
    state                 text        NOT NULL CHECK (state IN ('next', 'active', 'retired')),
    public_key            bytea       NOT NULL,
    -- PKCS#8, encrypted with a key that is not in the database.
    encrypted_private_key bytea       NOT NULL,
    create_time           timestamptz NOT NULL
);
-- At most one key is in state active.
CREATE UNIQUE INDEX signing_keys_active_key ON signing_keys (state) WHERE state = 'active';

CREATE TABLE roles (
    id          uuid PRIMARY KEY,
    code_name   text NOT NULL CONSTRAINT roles_code_name_key UNIQUE,
    name        text NOT NULL CONSTRAINT roles_name_key UNIQUE,
    description text NOT NULL
);
INSERT INTO roles (id, code_name, name, description) VALUES
    ('00000000-0000-7000-8000-000000000001', 'superuser', 'Superuser', 'Holds every permission.'),
    ('00000000-0000-7000-8000-000000000002', 'admin', 'Administrator', 'Administers users, sessions, roles and keys.'),
    ('00000000-0000-7000-8000-000000000003', 'player', 'Player', 'Plays. Every registered user is one.'),
    ('00000000-0000-7000-8000-000000000004', 'service', 'Service', 'Another service.');

CREATE TABLE user_roles (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role_id uuid NOT NULL REFERENCES roles (id) ON DELETE RESTRICT,
    PRIMARY KEY (user_id, role_id)
);
CREATE INDEX user_roles_role_id_idx ON user_roles (role_id);
