-- The delegations that stand under a session, for its cap: those that have ended leave the index at once.
CREATE INDEX sessions_open ON sessions (root, last_exp) WHERE root IS NOT NULL AND ended_at IS NULL;
