DROP TABLE user_roles;
DROP TABLE roles;
DROP TABLE signing_keys;
DROP TABLE sessions;
DROP TABLE users;
