ALTER TABLE users
    -- Another, older account has the key of this address. This user logs in with the login.
    ADD COLUMN email_is_taken boolean NOT NULL DEFAULT false,
    -- Equals update_time if email_folded and search_folded are current. A version that does not know this column leaves it
    -- behind when it writes them, and the next start recomputes them.
    ADD COLUMN key_time timestamptz;
CREATE INDEX users_stale_keys_idx ON users (create_time, id)
    WHERE key_time IS NULL OR key_time <> update_time OR email_is_taken;
