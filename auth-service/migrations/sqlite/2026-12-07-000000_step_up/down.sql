ALTER TABLE sessions DROP COLUMN acr;
ALTER TABLE sessions DROP COLUMN auth_methods;
ALTER TABLE sessions DROP COLUMN auth_time;
