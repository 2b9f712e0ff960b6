-- Delegations are rows of sessions: nodes of a tree whose root is the session of a registration.
ALTER TABLE sessions ADD COLUMN last_exp INTEGER NOT NULL DEFAULT 0; -- Unix seconds: of any token it ever had
ALTER TABLE sessions ADD COLUMN root TEXT;                           -- of a delegation: the session's sid
ALTER TABLE sessions ADD COLUMN nodes TEXT;                          -- of a delegation: JSON array of ids from the root, itself last
ALTER TABLE sessions ADD COLUMN parent TEXT;                         -- of a delegation: the node above
ALTER TABLE sessions ADD COLUMN ceiling INTEGER;                     -- of a delegation: Unix seconds that no token of it outlives
ALTER TABLE sessions ADD COLUMN barred INTEGER NOT NULL DEFAULT 0;   -- a person revoked the agent
UPDATE sessions SET last_exp = MAX(exp, COALESCE(prev_exp, 0));
CREATE INDEX sessions_parent ON sessions (parent) WHERE parent IS NOT NULL;
DROP INDEX sessions_exp;
CREATE INDEX sessions_last_exp ON sessions (last_exp);
