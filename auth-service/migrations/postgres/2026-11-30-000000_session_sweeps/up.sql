-- A rotation changes one row and no index: PostgreSQL then writes the new version of the row beside
-- the old one (a heap-only tuple), and the pages keep room for that.
ALTER TABLE sessions SET (fillfactor = 80);
-- Time of the next check for expiry, not later than the expiry itself. A rotation postpones
-- expire_time without changing this indexed column.
ALTER TABLE sessions ADD COLUMN sweep_time timestamptz NOT NULL DEFAULT now();
CREATE INDEX sessions_due_idx ON sessions (sweep_time) WHERE end_time IS NULL;
CREATE INDEX sessions_sweep_time_idx ON sessions (sweep_time);
DROP INDEX sessions_expire_time_idx;
