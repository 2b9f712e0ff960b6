//! Rows of pods, many at a time.

use agentwrit_protocol::{PodUid, UnixMillis};
use agentwrit_store::session::kept_until;
use agentwrit_store::stored_json::to_json;
use agentwrit_store::{
    EndReason, HeldByPod, Holdings, PodGroups, PodSelector, Policies, Result, Session, Sessions, TxClock,
};
use async_trait::async_trait;
use rusqlite::{Params, params};

use crate::statements::{Statements, scalar};
use crate::tx::SqliteTx;

const READ: &str = "read_pod";
/// The pods that a selector means; after a UNION those of sessions that were opened so before the last launch. `?3` is the
/// second that both clocks have passed.
const BY_NAMESPACE: &str = "SELECT uid FROM pods WHERE namespace = ?1 ORDER BY uid";
const BY_NODE: &str = "SELECT uid FROM pods WHERE node = ?1 ORDER BY uid";
const BY_ACCOUNT: &str = "SELECT uid FROM pods WHERE namespace = ?1 AND service_account = ?2 ORDER BY uid";
const BY_APP: &str = "SELECT uid FROM pods WHERE namespace = ?1 AND orch_id = ?2 UNION \
    SELECT pod_uid FROM sessions WHERE pod_uid IS NOT NULL AND root IS NULL AND orch_id = ?2 AND last_exp >= ?3 \
    AND pod_uid NOT IN (SELECT pod_uid FROM buried_pods) ORDER BY 1";
const BY_POLICY: &str = "SELECT uid FROM pods WHERE namespace = ?1 AND policy = ?2 UNION \
    SELECT pod_uid FROM sessions WHERE policy_uid = (SELECT uid FROM policies WHERE kind = 'launch_token' \
    AND namespace = ?1 AND name = ?2) AND pod_uid IS NOT NULL AND last_exp >= ?3 \
    AND pod_uid NOT IN (SELECT pod_uid FROM buried_pods) ORDER BY 1";
/// Of UIDs in a JSON array; `?2` and `?3` as for live sessions.
const AGENTS: &str = "SELECT COUNT(*) FROM json_each(?1) CROSS JOIN sessions ON pod_uid = value WHERE last_exp >= ?2 \
    AND (ended_at IS NULL OR (end_reason = 'superseded' AND ended_at > ?3))";
const DELEGATIONS: &str = "SELECT COUNT(*) FROM (\
    SELECT d.sid FROM json_each(?1) CROSS JOIN sessions s ON s.pod_uid = value CROSS JOIN sessions d ON d.root = s.sid \
    WHERE s.last_exp >= ?2 AND (s.ended_at IS NULL OR (s.end_reason = 'superseded' AND s.ended_at > ?3)) \
    AND (d.ended_at IS NULL OR d.end_reason = 'superseded') AND d.last_exp >= ?2 \
    AND (d.ended_at IS NULL OR d.ended_at > ?3) \
    UNION SELECT h.sid FROM json_each(?1) CROSS JOIN sessions h ON h.holder_pod = value \
    WHERE h.last_exp >= ?2 AND (h.ended_at IS NULL OR (h.end_reason = 'superseded' AND h.ended_at > ?3)))";
/// Of everybody; the first condition is that of an index.
const ALL_SESSIONS: &str = "SELECT COUNT(*) FROM sessions WHERE kept_until >= ?1 AND last_exp >= ?2 \
    AND (ended_at IS NULL OR (end_reason = 'superseded' AND ended_at > ?3)) AND (root IS NULL) = ?4";

impl SqliteTx<'_> {
    fn uids(&self, sql: &str, values: impl Params) -> Result<Vec<PodUid>> {
        let uids: Vec<String> = self.connection.all(READ, sql, values, scalar(READ))?;
        Ok(uids.into_iter().map(PodUid::from).collect())
    }

    fn count(&self, sql: &str, values: impl Params) -> Result<i64> {
        let found: Option<i64> = self.connection.first(READ, sql, values, scalar(READ))?;
        Ok(found.unwrap_or_default())
    }
}

#[async_trait]
impl PodGroups for SqliteTx<'_> {
    async fn pods_matching(&mut self, selector: &PodSelector) -> Result<Vec<PodUid>> {
        let orch_id = selector.orchestration().unwrap_or_default();
        let passed = self.times.passed().second().get();
        match selector {
            PodSelector::Namespace(namespace) => self.uids(BY_NAMESPACE, [namespace]),
            PodSelector::Node(node) => self.uids(BY_NODE, [node]),
            PodSelector::App { namespace, .. } => self.uids(BY_APP, params![namespace, orch_id.as_str(), passed]),
            PodSelector::Policy { namespace, name } => self.uids(BY_POLICY, params![namespace, name, passed]),
            PodSelector::ServiceAccount { namespace, name } => self.uids(BY_ACCOUNT, [namespace, name]),
        }
    }

    async fn holdings_of(&mut self, pods: &[PodUid]) -> Result<Holdings> {
        let named = to_json("pods", &pods)?;
        let (passed, now) = (self.times.passed().second().get(), self.times.judged.get());
        Ok(Holdings {
            pods: i64::try_from(pods.len()).unwrap_or(i64::MAX),
            agents: self.count(AGENTS, params![named, passed, now])?,
            delegations: self.count(DELEGATIONS, params![named, passed, now])?,
            launch_tokens: 0,
        })
    }

    async fn holdings(&mut self) -> Result<Holdings> {
        let passed = self.times.passed().second();
        let (kept, now) = (kept_until(passed).get(), self.times.judged.get());
        let unused = "SELECT COUNT(*) FROM launch_tokens WHERE consumed_at IS NULL AND expires_at >= ?";
        Ok(Holdings {
            pods: self.count("SELECT COUNT(*) FROM pods", [])?,
            agents: self.count(ALL_SESSIONS, params![kept, passed.get(), now, true])?,
            delegations: self.count(ALL_SESSIONS, params![kept, passed.get(), now, false])?,
            launch_tokens: self.count(unused, [self.now_millis().get()])?,
        })
    }

    async fn quarantine_pods(&mut self, pods: &[PodUid], by: &str, until: UnixMillis) -> Result<Vec<PodUid>> {
        const OPERATION: &str = "quarantine_pod";
        let sql = "INSERT INTO quarantined_pods (pod_uid, since, by, until) \
                   SELECT value, ?2, ?3, iif(EXISTS (SELECT 1 FROM pods WHERE uid = value), NULL, ?4) \
                   FROM json_each(?1) WHERE true \
                   ON CONFLICT DO UPDATE SET until = MAX(until, excluded.until) WHERE until < excluded.until \
                   RETURNING pod_uid";
        let values = params![to_json("pods", &pods)?, self.now_millis().get(), by, until.get()];
        let fresh: Vec<String> = self.connection.all(OPERATION, sql, values, scalar(OPERATION))?;
        Ok(fresh.into_iter().map(PodUid::from).collect())
    }

    async fn held_by_pods(&mut self, pods: &[PodUid]) -> Result<Vec<HeldByPod>> {
        let mut held = Vec::new();
        // A question costs no way here.
        for pod in pods {
            if self.pod_has_tombstone(pod).await? {
                continue;
            }
            let sessions = self.unexpired_sessions_by_pod(pod).await?;
            let last = if sessions.is_empty() {
                self.last_session_of_pod(pod).await?
            } else {
                None
            };
            held.push(HeldByPod {
                pod: pod.clone(),
                sessions,
                last,
                delegations: self.standing_delegations_to_pod(pod).await?,
            });
        }
        Ok(held)
    }

    async fn revoke_sessions(&mut self, sessions: &[&Session]) -> Result<Vec<bool>> {
        let now = self.times.judged;
        let mut ended = Vec::new();
        for session in sessions {
            ended.push(self.end_session(session, EndReason::Revoked, now).await?);
        }
        Ok(ended)
    }
}
