-- Further properties of users.
ALTER TABLE users ADD COLUMN must_change_password INTEGER NOT NULL DEFAULT 0 CHECK (must_change_password IN (0, 1));
-- The user represents a service and cannot log in.
ALTER TABLE users ADD COLUMN is_service INTEGER NOT NULL DEFAULT 0 CHECK (is_service IN (0, 1));
ALTER TABLE users ADD COLUMN force_logout_time INTEGER;
ALTER TABLE users ADD COLUMN delete_time INTEGER;
ALTER TABLE users ADD COLUMN search_folded TEXT NOT NULL DEFAULT '';
-- Login, address and name in the form in which they are searched, one per line.
UPDATE users SET search_folded = login_folded || char(10) || email_folded || char(10)
    || lower(trim(replace(first_name || ' ' || middle_name || ' ' || last_name, '  ', ' ')));
CREATE INDEX users_create_time_idx ON users (create_time, id);

-- Device of a session and where it was last used. The service defines the possible values of end_reason.
CREATE TABLE sessions_new (
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
    end_reason           TEXT,
    device_id            BLOB,
    ip_address           TEXT    NOT NULL,
    -- At most 256 characters.
    user_agent           TEXT    NOT NULL,
    last_use_time        INTEGER NOT NULL,
    CHECK ((end_time IS NULL) = (end_reason IS NULL))
) STRICT;
INSERT INTO sessions_new
    SELECT id, user_id, counter, is_used, rotation_request, create_time, rotate_time, expire_time, absolute_expire_time,
        end_time, end_reason, NULL, '', '', rotate_time
    FROM sessions;
DROP TABLE sessions;
ALTER TABLE sessions_new RENAME TO sessions;
CREATE INDEX sessions_user_id_idx ON sessions (user_id);
CREATE INDEX sessions_unended_user_id_idx ON sessions (user_id) WHERE end_time IS NULL;
-- For the purge of sessions that ended long ago.
CREATE INDEX sessions_end_time_idx ON sessions (end_time);
CREATE INDEX sessions_expire_time_idx ON sessions (expire_time);

-- Keys are published before they sign, and until the last token that they signed has expired.
-- Time at which the key begins to sign.
ALTER TABLE signing_keys ADD COLUMN activate_time INTEGER NOT NULL DEFAULT 0;
ALTER TABLE signing_keys ADD COLUMN retire_time INTEGER;
-- Time at which the last token has expired.
ALTER TABLE signing_keys ADD COLUMN expire_time INTEGER;
UPDATE signing_keys SET activate_time = create_time;
-- At most one key is in state next.
CREATE UNIQUE INDEX signing_keys_next_key ON signing_keys (state) WHERE state = 'next';

ALTER TABLE roles ADD COLUMN create_time INTEGER NOT NULL DEFAULT 0;
UPDATE roles SET create_time = CAST(strftime('%s', 'now') AS INTEGER) * 1000000;

-- Resources, actions, and permissions that combine the two.
CREATE TABLE resources (
    id          BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    code_name   TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    -- Client id of the service that declared it; NULL if an administrator created it.
    owner       TEXT,
    create_time INTEGER NOT NULL
) STRICT;

CREATE TABLE actions (
    id          BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    code_name   TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    create_time INTEGER NOT NULL
) STRICT;
INSERT INTO actions (id, code_name, name, description, create_time) VALUES
    (x'00000000000070008000000000000011', 'all', 'All', 'Every action of the resource.', CAST(strftime('%s', 'now') AS INTEGER) * 1000000),
    (x'00000000000070008000000000000012', 'create', 'Create', '', CAST(strftime('%s', 'now') AS INTEGER) * 1000000),
    (x'00000000000070008000000000000013', 'read', 'Read', '', CAST(strftime('%s', 'now') AS INTEGER) * 1000000),
    (x'00000000000070008000000000000014', 'update', 'Update', '', CAST(strftime('%s', 'now') AS INTEGER) * 1000000),
    (x'00000000000070008000000000000015', 'delete', 'Delete', '', CAST(strftime('%s', 'now') AS INTEGER) * 1000000);

CREATE TABLE permissions (
    id          BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    resource_id BLOB NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    action_id   BLOB NOT NULL REFERENCES actions (id) ON DELETE CASCADE,
    -- `resource:action`.
    name        TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    -- True if an RPC of a service requires it.
    is_declared INTEGER CHECK (is_declared IN (0, 1)) NOT NULL,
    create_time INTEGER NOT NULL,
    UNIQUE (resource_id, action_id)
) STRICT;
CREATE INDEX permissions_action_id_idx ON permissions (action_id);

CREATE TABLE role_permissions (
    role_id       BLOB NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    permission_id BLOB NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
    PRIMARY KEY (role_id, permission_id)
) STRICT;
CREATE INDEX role_permissions_permission_id_idx ON role_permissions (permission_id);

-- Permissions granted directly to users.
CREATE TABLE user_permissions (
    user_id       BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    permission_id BLOB NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, permission_id)
) STRICT;
CREATE INDEX user_permissions_permission_id_idx ON user_permissions (permission_id);

-- Accounts of services, each with a user that represents the service. Secrets are random, so a plain digest protects them.
CREATE TABLE service_accounts (
    user_id              BLOB PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id            TEXT NOT NULL UNIQUE,
    description          TEXT NOT NULL,
    -- SHA-256.
    secret_hash          BLOB NOT NULL,
    secret_time          INTEGER NOT NULL,
    -- Previous secret, while it is still valid.
    previous_secret_hash BLOB,
    previous_expire_time INTEGER,
    create_time          INTEGER NOT NULL,
    last_token_time      INTEGER,
    CHECK ((previous_secret_hash IS NULL) = (previous_expire_time IS NULL))
) STRICT;

-- Failed logins by account, address and device. The keys are MACs, so the table identifies no user.
CREATE TABLE login_throttle (
    key         BLOB PRIMARY KEY NOT NULL,
    failures    INTEGER NOT NULL CHECK (failures >= 0),
    -- No attempt is allowed before this time.
    blocked_until INTEGER NOT NULL,
    expire_time INTEGER NOT NULL
) STRICT;
CREATE INDEX login_throttle_expire_time_idx ON login_throttle (expire_time);

-- State of the feed, in one row. A transaction that writes an event takes its number here as its last act, so numbers
-- are in the order of commits and without gaps.
CREATE TABLE feed_head (
    id       INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    epoch    BLOB NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence >= 0),
    -- Longest lifetime of any access token issued so far.
    max_access_token_seconds INTEGER NOT NULL
) STRICT;

-- Events for the verifiers of tokens. An event replaces the previous one of the same kind and subject.
CREATE TABLE access_feed (
    sequence    INTEGER PRIMARY KEY NOT NULL,
    kind        TEXT NOT NULL,
    -- Session, user or role that the event is about; empty for kinds with a single event.
    subject     TEXT NOT NULL,
    -- Encoded auth.v1.AccessEvent without its sequence.
    event       BLOB NOT NULL,
    -- NULL if the event never expires.
    expire_time INTEGER,
    UNIQUE (kind, subject)
) STRICT;
CREATE INDEX access_feed_expire_time_idx ON access_feed (expire_time);

-- Audit log. Rows have no foreign keys, because they outlive the objects that they are about.
CREATE TABLE audit_events (
    id              BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    event_time      INTEGER NOT NULL,
    action          TEXT NOT NULL,
    outcome         TEXT NOT NULL CHECK (outcome IN ('success', 'failure')),
    reason          TEXT NOT NULL,
    actor_user_id   BLOB,
    actor_client_id TEXT NOT NULL,
    target_type     TEXT NOT NULL,
    target_id       TEXT NOT NULL,
    subject_user_id BLOB,
    ip_address      TEXT NOT NULL,
    user_agent      TEXT NOT NULL,
    request_id      TEXT NOT NULL,
    -- JSON object whose values are strings.
    details         TEXT NOT NULL
) STRICT;
CREATE INDEX audit_events_event_time_idx ON audit_events (event_time, id);
CREATE INDEX audit_events_actor_user_id_idx ON audit_events (actor_user_id, event_time, id);
CREATE INDEX audit_events_subject_user_id_idx ON audit_events (subject_user_id, event_time, id);
