-- Every B-tree that a command writes at a random place costs a page in the WAL and one in the file. Rows are therefore
-- appended, keys begin with what grows, and what can be found by the stem of an id (store/session.rs) has no index.

ALTER TABLE sessions RENAME TO sessions_before;
CREATE TABLE sessions (
    id             INTEGER PRIMARY KEY,
    sid            TEXT NOT NULL UNIQUE,
    agent_id       TEXT NOT NULL,
    orch_id        TEXT NOT NULL,
    task_id        TEXT NOT NULL,
    scope          TEXT NOT NULL,      -- JSON array
    jti            TEXT NOT NULL,      -- of the current token
    iat            INTEGER NOT NULL,   -- Unix seconds
    exp            INTEGER NOT NULL,   -- Unix seconds
    last_exp       INTEGER NOT NULL,   -- Unix seconds: of any token it ever had
    kept_until     INTEGER NOT NULL,   -- Unix seconds, coarse, so that few renewals move it: then the row goes
    prev_jti       TEXT,
    prev_until     INTEGER,            -- Unix milliseconds
    prev_exp       INTEGER,            -- Unix seconds
    renew_key      TEXT,
    created_at     INTEGER NOT NULL,   -- Unix milliseconds
    ended_at       INTEGER,            -- Unix milliseconds
    end_reason     TEXT,
    barred         INTEGER NOT NULL,   -- a person revoked the agent
    correlation_id TEXT NOT NULL,
    policy_uid     TEXT,
    pod_uid        TEXT,
    attested       TEXT,               -- JSON object
    root           TEXT,               -- of a delegation: the session's sid
    nodes          TEXT,               -- of a delegation: JSON array of ids from the root, itself last
    parent         TEXT,               -- of a delegation: the node above
    ceiling        INTEGER             -- of a delegation: Unix seconds that no token of it outlives
) STRICT;
INSERT INTO sessions (sid, agent_id, orch_id, task_id, scope, jti, iat, exp, last_exp, kept_until, prev_jti, prev_until,
    prev_exp, renew_key, created_at, ended_at, end_reason, barred, correlation_id, policy_uid, pod_uid, attested, root,
    nodes, parent, ceiling)
SELECT sid, agent_id, orch_id, task_id, scope, jti, iat, exp, last_exp, (last_exp / 3600 + 26) * 3600, prev_jti,
    prev_until, prev_exp, renew_key, created_at, ended_at, end_reason, barred, correlation_id, policy_uid, pod_uid,
    attested, root, nodes, parent, ceiling
FROM sessions_before ORDER BY created_at;
DROP TABLE sessions_before;
-- Sessions of before, whose ids have no stem in common, could not be found by jti or agent: they end.
UPDATE sessions SET ended_at = created_at, end_reason = 'revoked'
WHERE ended_at IS NULL AND root IS NULL AND substr(sid, 1, 16) <> substr(agent_id, -16);
CREATE INDEX sessions_delegate ON sessions (agent_id) WHERE root IS NOT NULL;
CREATE INDEX sessions_task ON sessions (task_id);
CREATE INDEX sessions_orch ON sessions (orch_id) WHERE pod_uid IS NOT NULL;
CREATE INDEX sessions_policy ON sessions (policy_uid) WHERE policy_uid IS NOT NULL;
CREATE INDEX sessions_pod ON sessions (pod_uid) WHERE pod_uid IS NOT NULL;
CREATE INDEX sessions_parent ON sessions (parent) WHERE parent IS NOT NULL;
CREATE INDEX sessions_ended ON sessions (last_exp) WHERE ended_at IS NOT NULL;
CREATE INDEX sessions_kept ON sessions (kept_until);

ALTER TABLE launch_tokens RENAME TO launch_tokens_before;
CREATE TABLE launch_tokens (
    id             INTEGER PRIMARY KEY,
    hash           TEXT NOT NULL UNIQUE, -- lower-hex SHA-256 of the token
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
) STRICT;
INSERT INTO launch_tokens (hash, agent_name, allowed_scope, max_ttl, single_use, expires_at, consumed_at, created_by,
    correlation_id, policy_uid, pod_uid, attested)
SELECT hash, agent_name, allowed_scope, max_ttl, single_use, expires_at, consumed_at, created_by, correlation_id,
    policy_uid, pod_uid, attested
FROM launch_tokens_before ORDER BY expires_at;
DROP TABLE launch_tokens_before;
CREATE INDEX launch_tokens_expiry ON launch_tokens (expires_at);
CREATE INDEX launch_tokens_pod ON launch_tokens (pod_uid) WHERE pod_uid IS NOT NULL;

ALTER TABLE spent_tokens RENAME TO spent_tokens_before;
CREATE TABLE spent_tokens (
    exp          INTEGER NOT NULL,     -- Unix seconds
    jti          TEXT NOT NULL,
    effective_at INTEGER NOT NULL,     -- Unix milliseconds: from then on refused
    PRIMARY KEY (exp, jti)
) STRICT, WITHOUT ROWID;
INSERT INTO spent_tokens (exp, jti, effective_at) SELECT exp, jti, effective_at FROM spent_tokens_before;
DROP TABLE spent_tokens_before;

ALTER TABLE nonces RENAME TO nonces_before;
CREATE TABLE nonces (
    until INTEGER NOT NULL,            -- Unix milliseconds; a nonce names its own
    nonce TEXT NOT NULL,
    PRIMARY KEY (until, nonce)
) STRICT, WITHOUT ROWID;
INSERT INTO nonces (until, nonce) SELECT until, nonce FROM nonces_before;
DROP TABLE nonces_before;
