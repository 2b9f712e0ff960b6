//! Rows of pods, many at a time.

use std::collections::{BTreeMap, BTreeSet};

use agentwrit_protocol::{PodUid, SessionId, UnixMillis};
use agentwrit_store::session::{AT_ONCE, kept_until};
use agentwrit_store::{EndReason, HeldByPod, Holdings, PodGroups, PodSelector, Result, Session, TxClock, ViewChange};
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

/// Sessions by the pod that each is about.
fn by_pod(found: Vec<Session>, pod: impl Fn(&Session) -> Option<&PodUid>) -> BTreeMap<PodUid, Vec<Session>> {
    let mut groups = BTreeMap::<PodUid, Vec<Session>>::new();
    for session in found {
        if let Some(pod) = pod(&session).cloned() {
            groups.entry(pod).or_default().push(session);
        }
    }
    groups
}

pub(super) fn texts(pods: &[PodUid]) -> Value {
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

    async fn held_by_pods(&mut self, pods: &[PodUid]) -> Result<Vec<HeldByPod>> {
        let buried = "SELECT pod_uid AS uid FROM buried_pods WHERE pod_uid = ANY($1)";
        let buried = self.link.all(READ, buried, values![texts(pods)], uid_of).await?;
        let buried: BTreeSet<PodUid> = buried.into_iter().collect();
        let found = self.sessions_of_pods(pods).await?;
        let mut sessions = by_pod(found, |session| session.attested.as_ref().map(|bound| &bound.pod_uid));
        let found = self.standing_delegations_to_pods(pods).await?;
        let mut delegations = by_pod(found, |session| session.delegated.as_ref()?.holder_pod.as_ref());
        let idle: Vec<PodUid> = pods
            .iter()
            .filter(|pod| !sessions.contains_key(*pod))
            .cloned()
            .collect();
        let found = if idle.is_empty() {
            Vec::new()
        } else {
            self.last_sessions_of_pods(&idle).await?
        };
        let mut last = by_pod(found, |session| session.attested.as_ref().map(|bound| &bound.pod_uid));
        let standing = pods.iter().filter(|pod| !buried.contains(*pod));
        Ok(standing
            .map(|pod| HeldByPod {
                pod: pod.clone(),
                sessions: sessions.remove(pod).unwrap_or_default(),
                last: last.remove(pod).and_then(|found| found.into_iter().next()),
                delegations: delegations.remove(pod).unwrap_or_default(),
            })
            .collect())
    }

    async fn revoke_sessions(&mut self, sessions: &[&Session]) -> Result<Vec<bool>> {
        let sids: Value = sessions.iter().map(|session| session.sid.as_str()).collect();
        let sql = "UPDATE sessions SET ended_at = $2, end_reason = 'revoked', open_root = NULL, \
                   status_set_at = least(coalesce(status_set_at, $3), $3) \
                   WHERE sid = ANY($1) AND (ended_at IS NULL OR (end_reason = 'superseded' AND ended_at > $2)) RETURNING sid";
        let values = values![sids, self.times.judged.get(), AT_ONCE.get()];
        let ended = self.link.all("end_session", sql, values, |row| row.text("sid")).await?;
        let ended: BTreeSet<String> = ended.into_iter().collect();
        let is_ended = |session: &Session| ended.contains(session.sid.as_str());
        let roots: Vec<&SessionId> = sessions
            .iter()
            .filter(|session| session.delegated.is_none() && is_ended(session))
            .map(|session| &session.sid)
            .collect();
        self.set_bits_below_roots(&roots, AT_ONCE).await?;
        let mut each = Vec::new();
        for session in sessions {
            let has_ended = is_ended(session);
            each.push(has_ended);
            if has_ended {
                if session.delegated.is_some() {
                    self.set_bits_below(session, AT_ONCE).await?;
                }
                self.view_change(ViewChange::SessionEnded {
                    sid: session.sid.clone(),
                    reason: EndReason::Revoked,
                    overlap_until: None,
                    until: session.last_exp.end(),
                });
            }
        }
        Ok(each)
    }
}
