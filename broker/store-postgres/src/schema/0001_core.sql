-- Ids and names are compared byte by byte, as the embedded store does: ranges of an id's prefix rest on it.
-- Moments: `at`, `first_at`, `last_at` are Unix nanoseconds; what ends in seconds is said; all others Unix milliseconds.

CREATE TABLE meta (key text COLLATE "C" PRIMARY KEY, value text NOT NULL);

-- The end of the one audit chain, and what is kept of it. Whoever writes anything locks this row first: so two batches never
-- append at once, and no two of them wait for each other.
CREATE TABLE chain_head (
    id                 bigint PRIMARY KEY CHECK (id = 1),
    sequence           bigint NOT NULL,
    hash               text NOT NULL,
    checkpoint         bigint NOT NULL,     -- number of the last checkpoint
    signed             bigint NOT NULL,     -- the last event that a signed statement covers
    unsigned_since     bigint,              -- Unix nanoseconds
    first_kept         bigint NOT NULL,
    segments           bigint NOT NULL,     -- sealed ones that are kept
    sealed_bytes       bigint NOT NULL,
    growing_first      bigint NOT NULL,
    growing_events     bigint NOT NULL,
    growing_bytes      bigint NOT NULL,
    growing_first_at   bigint NOT NULL,
    growing_last_at    bigint NOT NULL,
    growing_first_hash text NOT NULL,
    status_lists       bigint NOT NULL DEFAULT 1,   -- status lists that are open
    status_held        bigint NOT NULL DEFAULT 0,   -- rows of sessions beyond status_swept that have a status index
    status_swept       bigint NOT NULL DEFAULT 0,   -- seconds: rows that are kept until then or less hold no index any more
    view_seq           bigint NOT NULL DEFAULT 0,   -- number of the last change of the revocation view
    oldest_program     bigint NOT NULL DEFAULT 0    -- of schema_versions, for programs that run while a newer one migrates
) WITH (fillfactor = 10);

-- The last batch of each committer: a COMMIT whose answer was lost is looked up here. One row a process.
CREATE TABLE committers (
    id    text COLLATE "C" PRIMARY KEY,
    batch bigint NOT NULL,
    seen  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10);

CREATE TABLE launch_tokens (
    hash           text COLLATE "C" PRIMARY KEY,   -- lower-hex SHA-256 of the token
    agent_name     text NOT NULL,
    allowed_scope  text NOT NULL,       -- JSON array
    max_ttl        bigint NOT NULL,     -- seconds
    single_use     boolean NOT NULL,
    expires_at     bigint NOT NULL,
    consumed_at    bigint,
    created_by     text NOT NULL,
    correlation_id text NOT NULL,
    policy_uid     text,
    pod_uid        text,
    attested       text                 -- JSON object
) WITH (fillfactor = 80);
CREATE INDEX launch_tokens_expiry ON launch_tokens (expires_at);
CREATE INDEX launch_tokens_unused ON launch_tokens (expires_at) WHERE pod_uid IS NOT NULL AND consumed_at IS NULL;

-- What a renewal writes is in no index, but kept_until, which is coarse: the new version of the row stays in its page.
CREATE TABLE sessions (
    sid            text COLLATE "C" PRIMARY KEY,
    agent_id       text COLLATE "C" NOT NULL,
    orch_id        text COLLATE "C" NOT NULL,
    task_id        text COLLATE "C" NOT NULL,
    scope          text NOT NULL,       -- JSON array
    jti            text NOT NULL,       -- of the current token
    iat            bigint NOT NULL,     -- seconds
    exp            bigint NOT NULL,     -- seconds
    last_exp       bigint NOT NULL,     -- seconds: of any token it ever had
    kept_until     bigint NOT NULL,     -- seconds
    prev_jti       text,
    prev_until     bigint,
    prev_exp       bigint,              -- seconds
    prev_over      bigint,              -- on the clock that is judged by; 0 = at once
    renew_key      text,
    created_at     bigint NOT NULL,
    ended_at       bigint,
    end_reason     text,
    barred         boolean NOT NULL,
    correlation_id text NOT NULL,
    policy_uid     text COLLATE "C",
    pod_uid        text COLLATE "C",
    attested       text,                -- JSON object
    root           text COLLATE "C",    -- of a delegation: the session's sid
    nodes          text,                -- of a delegation: JSON array of ids from the root, itself last
    parent         text COLLATE "C",    -- of a delegation: the node above
    ceiling        bigint,              -- of a delegation: second that no token of it outlives
    holder_pod     text COLLATE "C",    -- of a delegation to an attested agent: the UID of its pod
    status         bigint,              -- index in the status lists: list * 2^20 + place
    status_set_at  bigint,              -- from when its bit counts, on the clock that is judged by; 0 = at once; NULL = not set
    -- The root, of a delegation whose bit may not be set for good: one that hasn't ended, or was superseded. In a condition of
    -- the index instead, ended_at would have each end of a session write to all indexes. Neither generated nor checked by
    -- the server, which would parse the expression again for each statement.
    open_root      text COLLATE "C"
) WITH (fillfactor = 80);
CREATE INDEX sessions_delegate ON sessions (agent_id) WHERE root IS NOT NULL;
-- A delegation has the task of its root, which is kept as long.
CREATE INDEX sessions_task ON sessions (task_id) WHERE root IS NULL;
CREATE INDEX sessions_orch ON sessions (orch_id) WHERE pod_uid IS NOT NULL AND root IS NULL;
CREATE INDEX sessions_policy ON sessions (policy_uid) WHERE policy_uid IS NOT NULL;
CREATE INDEX sessions_pod ON sessions (pod_uid) WHERE pod_uid IS NOT NULL;
CREATE INDEX sessions_holder ON sessions (holder_pod) WHERE holder_pod IS NOT NULL;
CREATE INDEX sessions_open ON sessions (open_root, kept_until) WHERE open_root IS NOT NULL;
CREATE INDEX sessions_kept ON sessions (kept_until) INCLUDE (status);
CREATE INDEX sessions_status ON sessions (status);

CREATE TABLE revocations (
    level  text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,   -- up to 16 KiB: an index holds no such text, but its hash
    until  bigint                       -- NULL = never forgotten
);
-- Immutable, since the database's encoding is UTF8 and stays so.
CREATE FUNCTION target_hash(target text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT sha256(convert_to(target, 'UTF8')) $$;
CREATE UNIQUE INDEX revocations_target ON revocations (level, target_hash(target));

-- Consumed nonces only; a nonce names its own moment.
CREATE TABLE nonces (until bigint NOT NULL, nonce text COLLATE "C" NOT NULL, PRIMARY KEY (until, nonce));

CREATE TABLE apps (
    sequence        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- order of registration
    app_id          text COLLATE "C" NOT NULL UNIQUE,
    name            text COLLATE "C" NOT NULL,
    client_id       text COLLATE "C" NOT NULL UNIQUE,
    secret_hash     text NOT NULL,      -- bcrypt
    scopes          text NOT NULL,      -- JSON array
    token_ttl       bigint NOT NULL,    -- seconds
    created_at      bigint NOT NULL,    -- seconds
    updated_at      bigint NOT NULL,    -- seconds
    deregistered_at bigint              -- seconds
);
-- The name of a deregistered app is free again.
CREATE UNIQUE INDEX apps_active_name ON apps (name) WHERE deregistered_at IS NULL;

CREATE TABLE policies (
    kind        text COLLATE "C" NOT NULL,   -- app | launch_token
    namespace   text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    uid         text COLLATE "C" NOT NULL,
    generation  bigint NOT NULL,
    lease_epoch bigint NOT NULL,
    sequence    bigint NOT NULL,
    state       text NOT NULL,          -- ready | not_ready | suspended
    reason      text,
    digest      text NOT NULL,
    accepted    text,                   -- JSON: the last spec that was not withdrawn
    app         text COLLATE "C",       -- of a LaunchToken: the app of its accepted spec
    app_id      text,
    issued      bigint NOT NULL,
    room_until  bigint NOT NULL,        -- up to how many registrations the agents need not be counted
    client_id   text COLLATE "C",       -- of an AgentApp whose accepted spec has a client
    PRIMARY KEY (kind, namespace, name)
) WITH (fillfactor = 80);
CREATE INDEX policies_uid ON policies (uid);
CREATE INDEX policies_app ON policies (namespace, app) WHERE app IS NOT NULL;
CREATE INDEX policies_client ON policies (client_id) WHERE client_id IS NOT NULL;

-- UIDs of removed objects: none comes back.
CREATE TABLE buried_policies (uid text COLLATE "C" PRIMARY KEY, until bigint NOT NULL);
CREATE TABLE buried_pods (pod_uid text COLLATE "C" PRIMARY KEY, until bigint NOT NULL);

-- The pods that launched, until they end; the id prefixes of those of their sessions that don't have the pod's mark.
CREATE TABLE pods (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uid             text COLLATE "C" NOT NULL UNIQUE,
    namespace       text COLLATE "C" NOT NULL,
    name            text NOT NULL,
    node            text COLLATE "C" NOT NULL,
    service_account text COLLATE "C" NOT NULL,
    policy          text COLLATE "C" NOT NULL,   -- LaunchToken and, by its orchestration, AgentApp of the last launch
    orch_id         text COLLATE "C" NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX pods_namespace ON pods (namespace, service_account);
CREATE INDEX pods_node ON pods (node);
CREATE TABLE pod_sessions (stem text COLLATE "C" PRIMARY KEY, pod bigint NOT NULL);
CREATE INDEX pod_sessions_pod ON pod_sessions (pod);
CREATE TABLE quarantined_pods (
    pod_uid text COLLATE "C" PRIMARY KEY,
    since   bigint NOT NULL,
    by_whom text NOT NULL,
    until   bigint                      -- NULL = until the pod ends
);
CREATE TABLE pod_launches (pod_uid text COLLATE "C" PRIMARY KEY, full_at bigint NOT NULL);
CREATE TABLE pod_supersessions (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pod_uid text COLLATE "C" NOT NULL,
    at      bigint NOT NULL             -- milliseconds
);
CREATE INDEX pod_supersessions_pod ON pod_supersessions (pod_uid, at);

-- The newest refusals, for Events on pods.
CREATE TABLE denials (
    cursor     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         text NOT NULL,           -- RFC 3339
    namespace  text COLLATE "C" NOT NULL,
    pod        text NOT NULL,
    pod_uid    text NOT NULL,
    policy     text NOT NULL,
    error_kind text NOT NULL,
    message    text NOT NULL
);

-- Public halves of the signing keys, of all times: tokens name the key by its kid, and so do the statements of the trail.
CREATE TABLE signing_keys (
    sequence     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kid          text COLLATE "C" NOT NULL UNIQUE,
    x            text NOT NULL,
    published_at bigint NOT NULL,       -- seconds, as all of them
    signs_from   bigint NOT NULL,
    retires_at   bigint,
    retired_at   bigint,
    leaked       boolean NOT NULL DEFAULT false
);

-- The newest changes of the revocation view, for other replicas (feed/mod.rs). Not logged: after a crash each loads all anew.
CREATE UNLOGGED TABLE view_changes (
    seq           bigint PRIMARY KEY,
    at            bigint NOT NULL,
    kind          text NOT NULL,        -- ended | renewed | revoked | lifted | epoch
    target        text NOT NULL,
    value         text NOT NULL,
    extra         text NOT NULL,
    overlap_until bigint,
    until         bigint
);
