ALTER TABLE users DROP COLUMN min_password_expire_time;
ALTER TABLE users DROP COLUMN invite_time;
