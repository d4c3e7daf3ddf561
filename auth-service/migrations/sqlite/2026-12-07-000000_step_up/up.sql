-- Time and methods of the login. All three columns are NULL in sessions from before and in those that
-- replicas of the previous version begin: they count as begun with a password at `create_time`.
ALTER TABLE sessions ADD COLUMN auth_time INTEGER;
-- Methods of RFC 8176, separated by spaces.
ALTER TABLE sessions ADD COLUMN auth_methods TEXT;
-- Authentication context class: '1' or '2'.
ALTER TABLE sessions ADD COLUMN acr TEXT;
