CREATE TABLE accounts (
    id BLOB PRIMARY KEY NOT NULL,
    login TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    seen INTEGER,
    inviter BLOB REFERENCES accounts (id)
) STRICT;
