-- Time of the next check for expiry, not later than the expiry itself. A rotation postpones
-- expire_time without changing this indexed column.
ALTER TABLE sessions ADD COLUMN sweep_time INTEGER NOT NULL DEFAULT 0;
UPDATE sessions SET sweep_time = expire_time;
CREATE INDEX sessions_due_idx ON sessions (sweep_time) WHERE end_time IS NULL;
CREATE INDEX sessions_sweep_time_idx ON sessions (sweep_time);
DROP INDEX sessions_expire_time_idx;
