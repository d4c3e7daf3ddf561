-- Further properties of users.
ALTER TABLE users
    ADD COLUMN must_change_password boolean NOT NULL DEFAULT false,
    -- The user represents a service and cannot log in.
    ADD COLUMN is_service boolean NOT NULL DEFAULT false,
    ADD COLUMN force_logout_time timestamptz,
    ADD COLUMN delete_time timestamptz,
    ADD COLUMN search_folded text NOT NULL DEFAULT '';
-- Login, address and name in the form in which they are searched, one per line.
UPDATE users SET search_folded = login_folded || chr(10) || email_folded || chr(10)
    || lower(trim(replace(first_name || ' ' || middle_name || ' ' || last_name, '  ', ' ')));
CREATE INDEX users_create_time_idx ON users (create_time, id);

-- Device of a session and where it was last used. The service defines the possible values of end_reason.
ALTER TABLE sessions DROP CONSTRAINT sessions_end_reason_check;
ALTER TABLE sessions
    ADD COLUMN device_id uuid,
    ADD COLUMN ip_address text NOT NULL DEFAULT '',
    -- At most 256 characters.
    ADD COLUMN user_agent text NOT NULL DEFAULT '',
    ADD COLUMN last_use_time timestamptz;
UPDATE sessions SET last_use_time = rotate_time;
ALTER TABLE sessions ALTER COLUMN last_use_time SET NOT NULL;
DROP INDEX sessions_user_id_idx;
CREATE INDEX sessions_user_id_idx ON sessions (user_id);
CREATE INDEX sessions_unended_user_id_idx ON sessions (user_id) WHERE end_time IS NULL;
-- For the purge of sessions that ended long ago.
CREATE INDEX sessions_end_time_idx ON sessions (end_time);
CREATE INDEX sessions_expire_time_idx ON sessions (expire_time);

-- Keys are published before they sign, and until the last token that they signed has expired.
ALTER TABLE signing_keys
    -- Time at which the key begins to sign.
    ADD COLUMN activate_time timestamptz,
    ADD COLUMN retire_time timestamptz,
    -- Time at which the last token has expired.
    ADD COLUMN expire_time timestamptz;
UPDATE signing_keys SET activate_time = create_time;
ALTER TABLE signing_keys ALTER COLUMN activate_time SET NOT NULL;
-- At most one key is in state next.
CREATE UNIQUE INDEX signing_keys_next_key ON signing_keys (state) WHERE state = 'next';

ALTER TABLE roles ADD COLUMN create_time timestamptz NOT NULL DEFAULT now();
ALTER TABLE roles ALTER COLUMN create_time DROP DEFAULT;

-- Resources, actions, and permissions that combine the two.
CREATE TABLE resources (
    id          uuid PRIMARY KEY,
    code_name   text NOT NULL CONSTRAINT resources_code_name_key UNIQUE,
    name        text NOT NULL CONSTRAINT resources_name_key UNIQUE,
    description text NOT NULL,
    -- Client id of the service that declared it; NULL if an administrator created it.
    owner       text,
    create_time timestamptz NOT NULL
);

CREATE TABLE actions (
    id          uuid PRIMARY KEY,
    code_name   text NOT NULL CONSTRAINT actions_code_name_key UNIQUE,
    name        text NOT NULL CONSTRAINT actions_name_key UNIQUE,
    description text NOT NULL,
    create_time timestamptz NOT NULL
);
INSERT INTO actions (id, code_name, name, description, create_time) VALUES
    ('00000000-0000-7000-8000-000000000011', 'all', 'All', 'Every action of the resource.', now()),
    ('00000000-0000-7000-8000-000000000012', 'create', 'Create', '', now()),
    ('00000000-0000-7000-8000-000000000013', 'read', 'Read', '', now()),
    ('00000000-0000-7000-8000-000000000014', 'update', 'Update', '', now()),
    ('00000000-0000-7000-8000-000000000015', 'delete', 'Delete', '', now());

CREATE TABLE permissions (
    id          uuid PRIMARY KEY,
    resource_id uuid NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    action_id   uuid NOT NULL REFERENCES actions (id) ON DELETE CASCADE,
    -- `resource:action`.
    name        text NOT NULL CONSTRAINT permissions_name_key UNIQUE,
    description text NOT NULL,
    -- True if an RPC of a service requires it.
    is_declared boolean NOT NULL,
    create_time timestamptz NOT NULL,
    CONSTRAINT permissions_resource_id_action_id_key UNIQUE (resource_id, action_id)
);
CREATE INDEX permissions_action_id_idx ON permissions (action_id);

CREATE TABLE role_permissions (
    role_id       uuid NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    permission_id uuid NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
    PRIMARY KEY (role_id, permission_id)
);
CREATE INDEX role_permissions_permission_id_idx ON role_permissions (permission_id);

-- Permissions granted directly to users.
CREATE TABLE user_permissions (
    user_id       uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    permission_id uuid NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, permission_id)
);
CREATE INDEX user_permissions_permission_id_idx ON user_permissions (permission_id);

-- Accounts of services, each with a user that represents the service. Secrets are random, so a plain digest protects them.
CREATE TABLE service_accounts (
    user_id              uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    client_id            text NOT NULL CONSTRAINT service_accounts_client_id_key UNIQUE,
    description          text NOT NULL,
    -- SHA-256.
    secret_hash          bytea NOT NULL,
    secret_time          timestamptz NOT NULL,
    -- Previous secret, while it is still valid.
    previous_secret_hash bytea,
    previous_expire_time timestamptz,
    create_time          timestamptz NOT NULL,
    last_token_time      timestamptz,
    CHECK ((previous_secret_hash IS NULL) = (previous_expire_time IS NULL))
);

-- Failed logins by account, address and device. The keys are MACs, so the table identifies no user.
CREATE TABLE login_throttle (
    key         bytea PRIMARY KEY,
    failures    bigint NOT NULL CHECK (failures >= 0),
    -- No attempt is allowed before this time.
    blocked_until timestamptz NOT NULL,
    expire_time timestamptz NOT NULL
);
CREATE INDEX login_throttle_expire_time_idx ON login_throttle (expire_time);

-- State of the feed, in one row. A transaction that writes an event takes its number here as its last act, so numbers
-- are in the order of commits and without gaps.
CREATE TABLE feed_head (
    id       smallint PRIMARY KEY CHECK (id = 1),
    epoch    uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence >= 0),
    -- Longest lifetime of any access token issued so far.
    max_access_token_seconds bigint NOT NULL
);

-- Events for the verifiers of tokens. An event replaces the previous one of the same kind and subject.
CREATE TABLE access_feed (
    sequence    bigint PRIMARY KEY,
    kind        text NOT NULL,
    -- Session, user or role that the event is about; empty for kinds with a single event.
    subject     text NOT NULL,
    -- Encoded auth.v1.AccessEvent without its sequence.
    event       bytea NOT NULL,
    -- NULL if the event never expires.
    expire_time timestamptz,
    CONSTRAINT access_feed_kind_subject_key UNIQUE (kind, subject)
);
CREATE INDEX access_feed_expire_time_idx ON access_feed (expire_time);

-- Audit log. Rows have no foreign keys, because they outlive the objects that they are about.
CREATE TABLE audit_events (
    id              uuid PRIMARY KEY,
    event_time      timestamptz NOT NULL,
    action          text NOT NULL,
    outcome         text NOT NULL CHECK (outcome IN ('success', 'failure')),
    reason          text NOT NULL,
    actor_user_id   uuid,
    actor_client_id text NOT NULL,
    target_type     text NOT NULL,
    target_id       text NOT NULL,
    subject_user_id uuid,
    ip_address      text NOT NULL,
    user_agent      text NOT NULL,
    request_id      text NOT NULL,
    -- JSON object whose values are strings.
    details         text NOT NULL
);
CREATE INDEX audit_events_event_time_idx ON audit_events (event_time, id);
CREATE INDEX audit_events_actor_user_id_idx ON audit_events (actor_user_id, event_time, id);
CREATE INDEX audit_events_subject_user_id_idx ON audit_events (subject_user_id, event_time, id);
