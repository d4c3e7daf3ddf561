-- Time of the last invitation, until the user has a password; NULL for other users.
ALTER TABLE users ADD COLUMN invite_time INTEGER;
-- Time before which a temporary password does not expire, whatever its age; NULL if its age decides.
ALTER TABLE users ADD COLUMN min_password_expire_time INTEGER;

-- Temporary passwords from before get a week from now. That of a superuser who has never logged in may
-- be the first administrator's, which never expires.
UPDATE users SET min_password_expire_time = CAST(strftime('%s', 'now') AS INTEGER) * 1000000 + 604800000000
WHERE must_change_password;
UPDATE users SET min_password_expire_time = 253402300799999999
WHERE must_change_password AND last_login_time IS NULL AND id IN (
    SELECT user_roles.user_id FROM user_roles JOIN roles ON roles.id = user_roles.role_id
    WHERE roles.code_name = 'superuser'
);
