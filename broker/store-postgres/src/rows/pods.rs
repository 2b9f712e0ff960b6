//! Rows of pods, many at a time.

use agentwrit_protocol::{PodUid, UnixMillis};
use agentwrit_store::session::kept_until;
use agentwrit_store::{Holdings, PodGroups, PodSelector, Result, TxClock};
use async_trait::async_trait;

use crate::row::Row;
use crate::tx::PgTx;
use crate::value::{Value, values};

const READ: &str = "read_pod";
/// The pods that a selector means; after a UNION those of sessions that were opened so before the last launch. `$3` is the
/// second that both clocks have passed.
const BY_NAMESPACE: &str = "SELECT uid FROM pods WHERE namespace = $1 ORDER BY uid";
const BY_NODE: &str = "SELECT uid FROM pods WHERE node = $1 ORDER BY uid";
const BY_ACCOUNT: &str = "SELECT uid FROM pods WHERE namespace = $1 AND service_account = $2 ORDER BY uid";
const BY_APP: &str = "SELECT uid FROM pods WHERE namespace = $1 AND orch_id = $2 UNION \
    SELECT pod_uid FROM sessions WHERE pod_uid IS NOT NULL AND root IS NULL AND orch_id = $2 AND last_exp >= $3 \
    AND NOT EXISTS (SELECT 1 FROM buried_pods b WHERE b.pod_uid = sessions.pod_uid) ORDER BY 1";
const BY_POLICY: &str = "SELECT uid FROM pods WHERE namespace = $1 AND policy = $2 UNION \
    SELECT pod_uid FROM sessions WHERE policy_uid = (SELECT p.uid FROM policies p WHERE p.kind = 'launch_token' \
    AND p.namespace = $1 AND p.name = $2) AND pod_uid IS NOT NULL AND last_exp >= $3 \
    AND NOT EXISTS (SELECT 1 FROM buried_pods b WHERE b.pod_uid = sessions.pod_uid) ORDER BY 1";
/// Of an array of UIDs; `$2` and `$3` as for live sessions.
const AGENTS: &str = "SELECT count(*) AS found FROM sessions WHERE pod_uid = ANY($1) AND last_exp >= $2 \
    AND (ended_at IS NULL OR (end_reason = 'superseded' AND ended_at > $3))";
const DELEGATIONS: &str = "SELECT count(*) AS found FROM (\
    SELECT d.sid FROM sessions s JOIN sessions d ON d.root = s.sid WHERE s.pod_uid = ANY($1) AND s.last_exp >= $2 \
    AND (s.ended_at IS NULL OR (s.end_reason = 'superseded' AND s.ended_at > $3)) \
    AND d.root IS NOT NULL AND (d.ended_at IS NULL OR d.end_reason = 'superseded') AND d.last_exp >= $2 \
    AND (d.ended_at IS NULL OR d.ended_at > $3) \
    UNION SELECT h.sid FROM sessions h WHERE h.holder_pod = ANY($1) AND h.last_exp >= $2 \
    AND (h.ended_at IS NULL OR (h.end_reason = 'superseded' AND h.ended_at > $3))) AS all_of_them";
/// Of everybody; the first condition is that of an index.
const ALL_SESSIONS: &str = "SELECT count(*) AS found FROM sessions WHERE kept_until >= $1 AND last_exp >= $2 \
    AND (ended_at IS NULL OR (end_reason = 'superseded' AND ended_at > $3)) AND (root IS NULL) = $4";

fn texts(pods: &[PodUid]) -> Value {
    pods.iter().map(PodUid::as_str).collect()
}

impl PgTx<'_, '_> {
    async fn count(&mut self, sql: &'static str, values: Vec<Value>) -> Result<i64> {
        let found = self.link.first(READ, sql, values, |row| row.whole("found")).await?;
        Ok(found.unwrap_or_default())
    }
}

fn uid_of(row: &Row<'_>) -> Result<PodUid> {
    row.text("uid").map(PodUid::from)
}

#[async_trait]
impl PodGroups for PgTx<'_, '_> {
    async fn pods_matching(&mut self, selector: &PodSelector) -> Result<Vec<PodUid>> {
        let orch_id = selector.orchestration().unwrap_or_default();
        let passed = self.times.passed().second().get();
        let (sql, values) = match selector {
            PodSelector::Namespace(namespace) => (BY_NAMESPACE, values![namespace]),
            PodSelector::Node(node) => (BY_NODE, values![node]),
            PodSelector::App { namespace, .. } => (BY_APP, values![namespace, orch_id.as_str(), passed]),
            PodSelector::Policy { namespace, name } => (BY_POLICY, values![namespace, name, passed]),
            PodSelector::ServiceAccount { namespace, name } => (BY_ACCOUNT, values![namespace, name]),
        };
        self.link.all(READ, sql, values, uid_of).await
    }

    async fn holdings_of(&mut self, pods: &[PodUid]) -> Result<Holdings> {
        let values = values![texts(pods), self.times.passed().second().get(), self.times.judged.get()];
        Ok(Holdings {
            pods: i64::try_from(pods.len()).unwrap_or(i64::MAX),
            agents: self.count(AGENTS, values.clone()).await?,
            delegations: self.count(DELEGATIONS, values).await?,
            launch_tokens: 0,
        })
    }

    async fn holdings(&mut self) -> Result<Holdings> {
        let passed = self.times.passed().second();
        let (kept, now) = (kept_until(passed).get(), self.times.judged.get());
        let unused = "SELECT count(*) AS found FROM launch_tokens WHERE consumed_at IS NULL AND expires_at >= $1";
        Ok(Holdings {
            pods: self.count("SELECT count(*) AS found FROM pods", values![]).await?,
            agents: self.count(ALL_SESSIONS, values![kept, passed.get(), now, true]).await?,
            delegations: self
                .count(ALL_SESSIONS, values![kept, passed.get(), now, false])
                .await?,
            launch_tokens: self.count(unused, values![self.now_millis().get()]).await?,
        })
    }

    async fn quarantine_pods(&mut self, pods: &[PodUid], by: &str, until: UnixMillis) -> Result<Vec<PodUid>> {
        let sql = "INSERT INTO quarantined_pods AS q (pod_uid, since, by_whom, until) \
                   SELECT named.uid, $2::bigint, $3::text, CASE WHEN EXISTS (SELECT 1 FROM pods WHERE pods.uid = named.uid) THEN NULL \
                   ELSE $4::bigint END FROM unnest($1::text[]) AS named(uid) \
                   ON CONFLICT (pod_uid) DO UPDATE SET until = excluded.until WHERE q.until < excluded.until \
                   RETURNING pod_uid AS uid";
        let values = values![texts(pods), self.now_millis().get(), by, until.get()];
        self.link.all("quarantine_pod", sql, values, uid_of).await
    }
}
