ALTER TABLE users
    -- Time of the last invitation, until the user has a password; NULL for other users.
    ADD COLUMN invite_time timestamptz,
    -- Time before which a temporary password does not expire, whatever its age; NULL if its age
    -- decides.
    ADD COLUMN min_password_expire_time timestamptz;

-- Temporary passwords from before get a week from now. That of a superuser who has never logged in may
-- be the first administrator's, which never expires.
UPDATE users SET min_password_expire_time = CASE
    WHEN last_login_time IS NULL AND id IN (
        SELECT user_roles.user_id FROM user_roles JOIN roles ON roles.id = user_roles.role_id
        WHERE roles.code_name = 'superuser'
    ) THEN timestamptz '9999-12-31 23:59:59.999999+00'
    ELSE now() + interval '7 days'
END
WHERE must_change_password;
