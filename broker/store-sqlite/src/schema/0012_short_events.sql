-- Events of long ago are kept short (short.rs): who they tell of is a row that many share, hashes are bytes, and the
-- text of the wire is made anew. Such a row has an empty json and empty texts where audit_who has them.
CREATE TABLE audit_who (
    id             INTEGER PRIMARY KEY,
    key            BLOB NOT NULL UNIQUE, -- SHA-256 of the texts
    agent_id       TEXT NOT NULL,
    task_id        TEXT NOT NULL,
    orch_id        TEXT NOT NULL,
    actor          TEXT NOT NULL,
    source         TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    policy_uid     TEXT NOT NULL,
    pod_uid        TEXT NOT NULL
) STRICT;
CREATE INDEX audit_who_correlation ON audit_who (correlation_id) WHERE correlation_id <> '';
CREATE INDEX audit_who_pod ON audit_who (pod_uid) WHERE pod_uid <> '';
ALTER TABLE audit_events ADD COLUMN who INTEGER;           -- audit_who.id; NULL in a row that isn't short
ALTER TABLE audit_events ADD COLUMN detail TEXT;           -- without the ext_hash at its end
ALTER TABLE audit_events ADD COLUMN hash BLOB;
ALTER TABLE audit_events ADD COLUMN prev_hash BLOB;
ALTER TABLE audit_events ADD COLUMN resource TEXT;         -- NULL when empty
ALTER TABLE audit_events ADD COLUMN deleg_depth INTEGER;   -- NULL for 0
ALTER TABLE audit_events ADD COLUMN deleg_chain_hash TEXT; -- NULL when empty
CREATE INDEX audit_events_who ON audit_events (who) WHERE who IS NOT NULL;
