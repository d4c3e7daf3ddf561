ALTER TABLE users
    -- Another user has the key of this address. This user logs in with the login.
    ADD COLUMN email_is_taken boolean NOT NULL DEFAULT false,
    -- Equals update_time if email_folded and search_folded are current. A version that does not know
    -- this column leaves it behind when it writes them, and they are recomputed.
    ADD COLUMN key_time timestamptz;
-- The keys of most users do not change: addresses and names in ASCII, with a domain of letters, digits
-- and hyphens that has no A-label. Users who are deleted or stand for services have keys of another kind.
UPDATE users SET key_time = update_time
WHERE is_service OR delete_time IS NOT NULL OR (
    email_folded = lower(email COLLATE "C")
    AND email_folded COLLATE "C"
        ~ '^[!-?A-~]+@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$'
    AND email_folded COLLATE "C" !~ '[@.]xn--'
    AND (first_name || middle_name || last_name) COLLATE "C" !~ '[^ -~]'
);
CREATE INDEX users_stale_keys_idx ON users (create_time, id)
    WHERE key_time IS NULL OR key_time <> update_time OR email_is_taken;
