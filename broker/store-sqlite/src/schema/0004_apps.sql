CREATE TABLE apps (
    sequence        INTEGER PRIMARY KEY,  -- order of registration
    app_id          TEXT NOT NULL UNIQUE,
    name            TEXT NOT NULL,
    client_id       TEXT NOT NULL UNIQUE,
    secret_hash     TEXT NOT NULL,        -- bcrypt
    scopes          TEXT NOT NULL,        -- JSON array
    token_ttl       INTEGER NOT NULL,     -- seconds
    created_at      INTEGER NOT NULL,     -- Unix seconds
    updated_at      INTEGER NOT NULL,     -- Unix seconds
    deregistered_at INTEGER               -- Unix seconds
) STRICT;
-- The name of a deregistered app is free again.
CREATE UNIQUE INDEX apps_active_name ON apps (name) WHERE deregistered_at IS NULL;
