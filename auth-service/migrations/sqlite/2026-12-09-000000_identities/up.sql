-- Identities at other providers with which users log in.
CREATE TABLE user_identities (
    id            BLOB PRIMARY KEY NOT NULL,
    user_id       BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Issuer and subject of the ID tokens. Together they are the key: no address ever is.
    issuer        TEXT NOT NULL,
    subject       TEXT NOT NULL,
    -- Name of the provider when the identity was linked.
    provider      TEXT NOT NULL,
    create_time   INTEGER NOT NULL,
    -- Time of the last login; NULL before the first one.
    last_use_time INTEGER,
    CONSTRAINT user_identities_issuer_key UNIQUE (issuer, subject)
) STRICT;
CREATE INDEX user_identities_user_id_idx ON user_identities (user_id);

-- Nonces of external logins that were used. One that was not is stored nowhere.
CREATE TABLE used_nonces (
    -- SHA-256 of the nonce.
    digest      BLOB PRIMARY KEY NOT NULL,
    expire_time INTEGER NOT NULL
) STRICT;
CREATE INDEX used_nonces_expire_time_idx ON used_nonces (expire_time);
