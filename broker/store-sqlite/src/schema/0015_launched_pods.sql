-- By what people know a pod: where it runs, as whom, and how it launched last. Rows of before have it from their last session.
ALTER TABLE pods ADD COLUMN node TEXT NOT NULL DEFAULT '';
ALTER TABLE pods ADD COLUMN service_account TEXT NOT NULL DEFAULT '';
ALTER TABLE pods ADD COLUMN policy TEXT NOT NULL DEFAULT '';
ALTER TABLE pods ADD COLUMN orch_id TEXT NOT NULL DEFAULT '';
UPDATE pods SET (node, service_account, policy, orch_id) = (
    SELECT coalesce(attested ->> 'node', ''), coalesce(attested ->> 'service_account', ''),
        coalesce(attested ->> 'policy_name', ''), orch_id
    FROM sessions WHERE pod_uid = pods.uid AND attested IS NOT NULL ORDER BY created_at DESC LIMIT 1
) WHERE EXISTS (SELECT 1 FROM sessions WHERE pod_uid = pods.uid AND attested IS NOT NULL);
CREATE INDEX pods_namespace ON pods (namespace, service_account);
CREATE INDEX pods_node ON pods (node);
