DROP TABLE used_nonces;
DROP TABLE user_identities;
