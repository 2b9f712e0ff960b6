CREATE TABLE policies (
    kind        TEXT NOT NULL,       -- app | launch_token
    namespace   TEXT NOT NULL,
    name        TEXT NOT NULL,
    uid         TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    lease_epoch INTEGER NOT NULL,
    sequence    INTEGER NOT NULL,
    state       TEXT NOT NULL,       -- ready | not_ready | suspended
    reason      TEXT,
    digest      TEXT NOT NULL,
    accepted    TEXT,                -- JSON: the last spec that was not withdrawn
    app         TEXT,                -- of a LaunchToken: the app of its accepted spec
    app_id      TEXT,
    issued      INTEGER NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX policies_uid ON policies (uid);
CREATE INDEX policies_app ON policies (namespace, app) WHERE app IS NOT NULL;

-- UIDs of removed objects: none comes back. Moments are Unix milliseconds.
CREATE TABLE buried_policies (uid TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE buried_pods (pod_uid TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE quarantined_pods (
    pod_uid   TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    since     INTEGER NOT NULL,
    by        TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pod_launches (pod_uid TEXT PRIMARY KEY, full_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE pod_supersessions (id INTEGER PRIMARY KEY, pod_uid TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE INDEX pod_supersessions_pod ON pod_supersessions (pod_uid, at);

-- The newest refusals, for Events on pods.
CREATE TABLE denials (
    cursor     INTEGER PRIMARY KEY AUTOINCREMENT,
    at         TEXT NOT NULL,        -- RFC 3339
    namespace  TEXT NOT NULL,
    pod        TEXT NOT NULL,
    pod_uid    TEXT NOT NULL,
    policy     TEXT NOT NULL,
    error_kind TEXT NOT NULL,
    message    TEXT NOT NULL
) STRICT;
