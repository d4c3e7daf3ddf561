-- Whether the user is a guest: without a password and an e-mail address of their own.
ALTER TABLE users ADD COLUMN is_guest boolean NOT NULL DEFAULT false;

-- Credentials with which guests log in. The secret itself is not stored.
CREATE TABLE guest_credentials (
    user_id     uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- HMAC of the credential, with a key that is not in the database.
    mac         bytea NOT NULL,
    create_time timestamptz NOT NULL,
    -- Time of the last use that a check has found. Rotations do not write it.
    use_time    timestamptz NOT NULL,
    -- Time of the next check whether the guest has been idle for too long.
    sweep_time  timestamptz NOT NULL
);
CREATE INDEX guest_credentials_sweep_time_idx ON guest_credentials (sweep_time);

-- The role `guest` becomes a built-in one. A role of an administrator with this code name or name
-- keeps its holders and permissions under another.
UPDATE roles SET code_name = 'guest_' || replace(id::text, '-', '') WHERE code_name = 'guest';
UPDATE roles SET name = 'Guest ' || replace(id::text, '-', '') WHERE name = 'Guest';
INSERT INTO roles (id, code_name, name, description, create_time) VALUES
    ('00000000-0000-7000-8000-000000000005', 'guest', 'Guest', 'Plays without an account of their own.', now());

-- Existing permissions that a new built-in role is given when their service next declares it as one
-- of their default roles.
CREATE TABLE new_role_permissions (
    role_id       uuid NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    permission_id uuid NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
    PRIMARY KEY (role_id, permission_id)
);
CREATE INDEX new_role_permissions_permission_id_idx ON new_role_permissions (permission_id);
INSERT INTO new_role_permissions (role_id, permission_id)
    SELECT roles.id, permissions.id FROM roles CROSS JOIN permissions
    WHERE roles.code_name = 'guest' AND permissions.is_declared;
