-- Another, older account has the key of this address. This user logs in with the login.
ALTER TABLE users ADD COLUMN email_is_taken INTEGER NOT NULL DEFAULT 0 CHECK (email_is_taken IN (0, 1));
-- Equals update_time if email_folded and search_folded are current. A version that does not know this column leaves it behind
-- when it writes them, and the next start recomputes them.
ALTER TABLE users ADD COLUMN key_time INTEGER;
CREATE INDEX users_stale_keys_idx ON users (create_time, id)
    WHERE key_time IS NULL OR key_time <> update_time OR email_is_taken;
