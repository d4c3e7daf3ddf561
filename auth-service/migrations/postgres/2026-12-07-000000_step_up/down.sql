ALTER TABLE sessions
    DROP COLUMN acr,
    DROP COLUMN auth_methods,
    DROP COLUMN auth_time;
