CREATE TABLE accounts (
    id UUID PRIMARY KEY,
    login TEXT NOT NULL UNIQUE,
    created TIMESTAMPTZ NOT NULL,
    seen TIMESTAMPTZ,
    inviter UUID REFERENCES accounts (id)
);
