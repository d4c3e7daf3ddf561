-- A login changes one column and no index. The pages keep free space for the next version of the row.
ALTER TABLE users SET (fillfactor = 90);

-- A purge deletes the oldest rows of a large table. By default, PostgreSQL would vacuum only when a fifth of
-- the table is dead. Until then the dead index entries slow the next purge, and the table grows.
ALTER TABLE sessions SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE audit_events SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE users SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- Small tables with many changes are vacuumed after a fixed number of them.
ALTER TABLE login_throttle SET (fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE access_feed SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- A search finds the users whose text contains another by its trigrams, without reading all users.
-- The extension comes with PostgreSQL, and the owner of a database may create it. Where it is missing,
-- a search reads all users as before. With millions of users, create the index before the upgrade, with
-- CREATE INDEX CONCURRENTLY: the statement below blocks writes to users while it builds the index.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        -- No list of pending entries, because every search would read it.
        -- An index that exists already is not locked.
        IF to_regclass('users_search_idx') IS NULL THEN
            CREATE INDEX users_search_idx ON users USING gin (search_folded gin_trgm_ops) WITH (fastupdate = off);
        ELSIF NOT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('users_search_idx')) THEN
            RAISE EXCEPTION 'the index users_search_idx was not built to its end: drop it, and migrate again';
        END IF;
    ELSE
        RAISE NOTICE 'pg_trgm is not installed, so that searches for users will read all of them';
    END IF;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'pg_trgm cannot be used, so that searches for users will read all of them: %', SQLERRM;
END
$$;
