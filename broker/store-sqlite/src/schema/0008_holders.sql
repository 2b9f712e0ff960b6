-- Of a delegation to an attested agent: the UID of its pod, with whose end the delegation ends.
ALTER TABLE sessions ADD COLUMN holder_pod TEXT;
UPDATE sessions SET holder_pod = (
    SELECT held.pod_uid FROM sessions AS held
    WHERE held.sid >= substr(sessions.agent_id, -16) AND held.sid < substr(sessions.agent_id, -16) || 'g'
    AND held.agent_id = sessions.agent_id AND held.root IS NULL)
WHERE root IS NOT NULL;
CREATE INDEX sessions_holder ON sessions (holder_pod) WHERE holder_pod IS NOT NULL;
UPDATE sessions SET ended_at = created_at, end_reason = 'pod_ended'
WHERE ended_at IS NULL AND holder_pod IN (SELECT pod_uid FROM buried_pods);
UPDATE sessions SET ended_at = created_at, end_reason = 'revoked'
WHERE ended_at IS NULL AND holder_pod IN (SELECT pod_uid FROM quarantined_pods);
UPDATE sessions SET ended_at = created_at, end_reason = 'superseded'
WHERE ended_at IS NULL AND holder_pod IS NOT NULL AND EXISTS (
    SELECT 1 FROM sessions AS held
    WHERE held.sid >= substr(sessions.agent_id, -16) AND held.sid < substr(sessions.agent_id, -16) || 'g'
    AND held.agent_id = sessions.agent_id AND held.root IS NULL AND held.end_reason = 'superseded');
