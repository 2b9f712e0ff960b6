-- A node's current token and its direct predecessor say which of its tokens stand: no row for each that was replaced.
ALTER TABLE sessions ADD COLUMN prev_over INTEGER; -- Unix milliseconds, on the clock that is judged by; 0 = at once
UPDATE sessions SET prev_over = coalesce(
    (SELECT effective_at FROM spent_tokens WHERE exp = prev_exp AND jti = prev_jti), 0)
WHERE prev_jti IS NOT NULL;
DROP TABLE spent_tokens;
