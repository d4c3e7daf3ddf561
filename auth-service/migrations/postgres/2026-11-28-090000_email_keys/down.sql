DROP INDEX users_stale_keys_idx;
ALTER TABLE users
    DROP COLUMN key_time,
    DROP COLUMN email_is_taken;
