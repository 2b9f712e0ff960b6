-- The pods that launched, until they end: a person's revocation finds the pod of a token that is long replaced.
CREATE TABLE pods (
    id        INTEGER PRIMARY KEY,
    uid       TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL
) STRICT;
-- The stems (store/session.rs) of their sessions: each token of a session begins with its stem.
CREATE TABLE pod_sessions (stem BLOB PRIMARY KEY, pod INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX pod_sessions_pod ON pod_sessions (pod);

INSERT OR IGNORE INTO pods (uid, namespace, name) SELECT pod_uid, namespace, name FROM quarantined_pods;
INSERT OR IGNORE INTO pods (uid, namespace, name)
SELECT pod_uid, attested ->> 'namespace', attested ->> 'pod_name' FROM sessions
WHERE pod_uid IS NOT NULL AND pod_uid NOT IN (SELECT pod_uid FROM buried_pods);
INSERT OR IGNORE INTO pods (uid, namespace, name)
SELECT pod_uid, attested ->> 'namespace', attested ->> 'pod_name' FROM launch_tokens
WHERE pod_uid IS NOT NULL AND pod_uid NOT IN (SELECT pod_uid FROM buried_pods);
INSERT OR IGNORE INTO pod_sessions (stem, pod)
SELECT unhex(substr(sid, 1, 16)), pods.id FROM sessions JOIN pods ON pods.uid = sessions.pod_uid
WHERE length(unhex(substr(sid, 1, 16))) = 8;

ALTER TABLE quarantined_pods ADD COLUMN until INTEGER; -- Unix milliseconds; NULL = until the pod ends
ALTER TABLE quarantined_pods DROP COLUMN namespace;
ALTER TABLE quarantined_pods DROP COLUMN name;
