CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE launch_tokens (
    hash           TEXT PRIMARY KEY,   -- lower-hex SHA-256 of the token
    agent_name     TEXT NOT NULL,
    allowed_scope  TEXT NOT NULL,      -- JSON array
    max_ttl        INTEGER NOT NULL,   -- seconds
    single_use     INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,   -- Unix milliseconds
    consumed_at    INTEGER,            -- Unix milliseconds
    created_by     TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    policy_uid     TEXT,
    pod_uid        TEXT,
    attested       TEXT                -- JSON object
) STRICT, WITHOUT ROWID;
CREATE INDEX launch_tokens_expiry ON launch_tokens (expires_at);
CREATE INDEX launch_tokens_pod ON launch_tokens (pod_uid) WHERE pod_uid IS NOT NULL;
CREATE INDEX launch_tokens_policy ON launch_tokens (policy_uid) WHERE policy_uid IS NOT NULL;

CREATE TABLE sessions (
    sid            TEXT PRIMARY KEY,
    agent_id       TEXT NOT NULL,
    orch_id        TEXT NOT NULL,
    task_id        TEXT NOT NULL,
    scope          TEXT NOT NULL,      -- JSON array
    jti            TEXT NOT NULL,      -- of the current token
    iat            INTEGER NOT NULL,   -- Unix seconds
    exp            INTEGER NOT NULL,   -- Unix seconds
    prev_jti       TEXT,
    prev_until     INTEGER,            -- Unix milliseconds
    prev_exp       INTEGER,            -- Unix seconds
    renew_key      TEXT,
    created_at     INTEGER NOT NULL,   -- Unix milliseconds
    ended_at       INTEGER,            -- Unix milliseconds
    end_reason     TEXT,
    correlation_id TEXT NOT NULL,
    policy_uid     TEXT,
    pod_uid        TEXT,
    attested       TEXT                -- JSON object
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX sessions_jti ON sessions (jti);
CREATE INDEX sessions_prev_jti ON sessions (prev_jti) WHERE prev_jti IS NOT NULL;
CREATE INDEX sessions_agent ON sessions (agent_id);
CREATE INDEX sessions_task ON sessions (task_id);
CREATE INDEX sessions_orch ON sessions (orch_id);
CREATE INDEX sessions_exp ON sessions (exp);
CREATE INDEX sessions_policy ON sessions (policy_uid) WHERE policy_uid IS NOT NULL;
CREATE INDEX sessions_pod ON sessions (pod_uid) WHERE pod_uid IS NOT NULL;

-- Tokens that a renewal replaced, until they would have expired.
CREATE TABLE spent_tokens (
    jti          TEXT PRIMARY KEY,
    effective_at INTEGER NOT NULL,     -- Unix milliseconds: from then on refused
    exp          INTEGER NOT NULL      -- Unix seconds
) STRICT, WITHOUT ROWID;
CREATE INDEX spent_tokens_exp ON spent_tokens (exp);

CREATE TABLE revocations (
    level  TEXT NOT NULL,
    target TEXT NOT NULL,
    until  INTEGER,                    -- Unix milliseconds; NULL = never forgotten
    PRIMARY KEY (level, target)
) STRICT, WITHOUT ROWID;

-- Consumed nonces only.
CREATE TABLE nonces (nonce TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE audit_events (
    seq            INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL,   -- Unix nanoseconds
    event_type     TEXT NOT NULL,
    outcome        TEXT NOT NULL,
    agent_id       TEXT NOT NULL,
    task_id        TEXT NOT NULL,
    actor          TEXT NOT NULL,
    source         TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    policy_uid     TEXT NOT NULL,
    pod_uid        TEXT NOT NULL,
    error_kind     TEXT NOT NULL,
    json           TEXT NOT NULL       -- the event as on the wire
) STRICT;
CREATE INDEX audit_events_agent ON audit_events (agent_id) WHERE agent_id <> '';
CREATE INDEX audit_events_correlation ON audit_events (correlation_id) WHERE correlation_id <> '';
CREATE INDEX audit_events_pod ON audit_events (pod_uid) WHERE pod_uid <> '';
