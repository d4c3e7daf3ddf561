CREATE INDEX sessions_expire_time_idx ON sessions (expire_time);
DROP INDEX sessions_sweep_time_idx;
DROP INDEX sessions_due_idx;
ALTER TABLE sessions DROP COLUMN sweep_time;
ALTER TABLE sessions RESET (fillfactor);
