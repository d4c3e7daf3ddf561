-- When to look whether the session has expired, at the latest when it has. A rotation postpones
-- expire_time and leaves this as it is, and with it the index.
ALTER TABLE sessions ADD COLUMN sweep_time INTEGER NOT NULL DEFAULT 0;
UPDATE sessions SET sweep_time = expire_time;
CREATE INDEX sessions_due_idx ON sessions (sweep_time) WHERE end_time IS NULL;
CREATE INDEX sessions_sweep_time_idx ON sessions (sweep_time);
DROP INDEX sessions_expire_time_idx;
