-- Indexes in status lists. Without an index of their own: each would be a page at a random place for every registration
-- (ADR 6). Which are held is in memory, read at the opening from the rows by kept_until.
ALTER TABLE sessions ADD COLUMN status INTEGER;        -- list * 2^20 + place; NULL in rows of before until their renewal
ALTER TABLE sessions ADD COLUMN status_set_at INTEGER; -- Unix milliseconds from which the bit counts, on the clock that is
                                                       -- judged by; 0 = at once; NULL = not set
-- An end sets the bits of the delegations below that aren't set for good: those that stand, and those with an overlap.
DROP INDEX sessions_open;
CREATE INDEX sessions_open ON sessions (root, last_exp)
WHERE root IS NOT NULL AND (ended_at IS NULL OR end_reason = 'superseded');
