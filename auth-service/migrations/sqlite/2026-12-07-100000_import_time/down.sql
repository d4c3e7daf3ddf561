ALTER TABLE users DROP COLUMN import_time;
