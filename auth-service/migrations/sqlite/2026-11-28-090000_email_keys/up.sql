-- Another user has the key of this address. This user logs in with the login.
ALTER TABLE users ADD COLUMN email_is_taken INTEGER NOT NULL DEFAULT 0 CHECK (email_is_taken IN (0, 1));
-- Equals update_time if email_folded and search_folded are current. A version that does not know this
-- column leaves it behind when it writes them, and they are recomputed.
ALTER TABLE users ADD COLUMN key_time INTEGER;
-- The keys of most users do not change: addresses and names in ASCII, with a domain of letters, digits
-- and hyphens that has no A-label. Users who are deleted or stand for services have keys of another kind.
UPDATE users SET key_time = update_time
WHERE is_service OR delete_time IS NOT NULL OR (
    -- lower() changes only ASCII.
    email_folded = lower(email)
    AND email_folded GLOB '?*@?*'
    AND NOT email_folded GLOB '*[^!-~]*'
    AND NOT substr(email_folded, instr(email_folded, '@') + 1) GLOB '*[^a-z0-9.-]*'
    AND NOT replace(email_folded, '@', '.') || '.' GLOB '*..*'
    AND NOT replace(email_folded, '@', '.') || '.' GLOB '*.-*'
    AND NOT replace(email_folded, '@', '.') || '.' GLOB '*-.*'
    AND NOT replace(email_folded, '@', '.') GLOB '*.xn--*'
    AND NOT first_name || middle_name || last_name GLOB '*[^ -~]*'
);
CREATE INDEX users_stale_keys_idx ON users (create_time, id)
    WHERE key_time IS NULL OR key_time <> update_time OR email_is_taken;
