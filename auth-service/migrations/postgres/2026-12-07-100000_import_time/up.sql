-- Time when the user was imported from another system. NULL for all other users.
ALTER TABLE users ADD COLUMN import_time timestamptz;
-- Users from imports before this migration, as far as they can be told: they have not logged in yet.
-- `imported-passwords` needs this, because it removes no hash of a user whose time of import is NULL.
UPDATE users SET import_time = update_time WHERE id IN (SELECT user_id FROM imported_passwords);
