-- What a user is beyond a name and a password.
ALTER TABLE users
    ADD COLUMN must_change_password boolean NOT NULL DEFAULT false,
    -- Stands for a service, and never logs in.
    ADD COLUMN is_service boolean NOT NULL DEFAULT false,
    ADD COLUMN force_logout_time timestamptz,
    ADD COLUMN delete_time timestamptz,
    ADD COLUMN search_folded text NOT NULL DEFAULT '';
-- Login, address and name as they are searched, a line each.
UPDATE users SET search_folded = login_folded || chr(10) || email_folded || chr(10)
    || lower(trim(replace(first_name || ' ' || middle_name || ' ' || last_name, '  ', ' ')));
CREATE INDEX users_create_time_idx ON users (create_time, id);

-- Sessions know their device, and where they were used. Why a session ended is for the service to name.
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
-- Sessions that are long dead are deleted.
CREATE INDEX sessions_end_time_idx ON sessions (end_time);
CREATE INDEX sessions_expire_time_idx ON sessions (expire_time);

-- Keys are published before they sign, and stay for as long as what they signed.
ALTER TABLE signing_keys
    -- From when on it signs.
    ADD COLUMN activate_time timestamptz,
    ADD COLUMN retire_time timestamptz,
    -- Its last token is dead.
    ADD COLUMN expire_time timestamptz;
UPDATE signing_keys SET activate_time = create_time;
ALTER TABLE signing_keys ALTER COLUMN activate_time SET NOT NULL;
-- One key waits.
CREATE UNIQUE INDEX signing_keys_next_key ON signing_keys (state) WHERE state = 'next';

ALTER TABLE roles ADD COLUMN create_time timestamptz NOT NULL DEFAULT now();
ALTER TABLE roles ALTER COLUMN create_time DROP DEFAULT;

-- What can be acted on, what can be done to it, and the two together.
CREATE TABLE resources (
    id          uuid PRIMARY KEY,
    code_name   text NOT NULL CONSTRAINT resources_code_name_key UNIQUE,
    name        text NOT NULL CONSTRAINT resources_name_key UNIQUE,
    description text NOT NULL,
    -- The client id of the service that declared it; NULL where an administrator made it.
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
    -- Whether the RPC of a service needs it.
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

-- Direct grants.
CREATE TABLE user_permissions (
    user_id       uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    permission_id uuid NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, permission_id)
);
CREATE INDEX user_permissions_permission_id_idx ON user_permissions (permission_id);

-- To every account belongs a user that stands for the service. Secrets are random, so that a plain digest keeps them.
CREATE TABLE service_accounts (
    user_id              uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    client_id            text NOT NULL CONSTRAINT service_accounts_client_id_key UNIQUE,
    description          text NOT NULL,
    -- SHA-256.
    secret_hash          bytea NOT NULL,
    secret_time          timestamptz NOT NULL,
    -- The secret before, while it is still good.
    previous_secret_hash bytea,
    previous_expire_time timestamptz,
    create_time          timestamptz NOT NULL,
    last_token_time      timestamptz,
    CHECK ((previous_secret_hash IS NULL) = (previous_expire_time IS NULL))
);

-- Failures at accounts, from addresses and by devices. The keys are MACs: the table names nobody.
CREATE TABLE login_throttle (
    key         bytea PRIMARY KEY,
    failures    bigint NOT NULL CHECK (failures >= 0),
    -- No attempt is let in before.
    blocked_until timestamptz NOT NULL,
    expire_time timestamptz NOT NULL
);
CREATE INDEX login_throttle_expire_time_idx ON login_throttle (expire_time);

-- The one row of the feed. Whoever writes an event takes its number here last of all, so that numbers are given in the
-- order of commits, and without gaps.
CREATE TABLE feed_head (
    id       smallint PRIMARY KEY CHECK (id = 1),
    epoch    uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence >= 0),
    -- The longest that any access token was ever issued for.
    max_access_token_seconds bigint NOT NULL
);

-- What verifiers have to know. An event replaces the one before it about the same subject.
CREATE TABLE access_feed (
    sequence    bigint PRIMARY KEY,
    kind        text NOT NULL,
    -- The session, user or role that it is about; empty where there is but one.
    subject     text NOT NULL,
    -- auth.v1.AccessEvent, without its sequence.
    event       bytea NOT NULL,
    -- NULL: it stays true.
    expire_time timestamptz,
    CONSTRAINT access_feed_kind_subject_key UNIQUE (kind, subject)
);
CREATE INDEX access_feed_expire_time_idx ON access_feed (expire_time);

-- Who did what. No row refers to another table: it outlives what it tells of.
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
    -- A JSON object of texts.
    details         text NOT NULL
);
CREATE INDEX audit_events_event_time_idx ON audit_events (event_time, id);
CREATE INDEX audit_events_actor_user_id_idx ON audit_events (actor_user_id, event_time, id);
CREATE INDEX audit_events_subject_user_id_idx ON audit_events (subject_user_id, event_time, id);
