-- Identities at other providers with which users log in.
CREATE TABLE user_identities (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Issuer and subject of the ID tokens. Together they are the key: no address ever is.
    issuer        text NOT NULL,
    subject       text NOT NULL,
    -- Name of the provider when the identity was linked.
    provider      text NOT NULL,
    create_time   timestamptz NOT NULL,
    -- Time of the last login; NULL before the first one.
    last_use_time timestamptz,
    CONSTRAINT user_identities_issuer_key UNIQUE (issuer, subject)
);
CREATE INDEX user_identities_user_id_idx ON user_identities (user_id);

-- Nonces of external logins that were used. One that was not is stored nowhere.
CREATE TABLE used_nonces (
    -- SHA-256 of the nonce.
    digest      bytea PRIMARY KEY,
    expire_time timestamptz NOT NULL
);
CREATE INDEX used_nonces_expire_time_idx ON used_nonces (expire_time);
