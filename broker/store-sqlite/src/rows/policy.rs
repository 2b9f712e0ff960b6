//! Rows of policies.

use agentwrit_protocol::k8s::{Denial, LivePod, PolicyKind, PolicyState, WriteOrder};
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_protocol::{Jti, PodUid, PolicyUid, SessionId, UnixMillis};
use agentwrit_store::policy::{
    MAX_DENIALS, MAX_UNMARKED_SESSIONS, NewDenial, Policies, Policy, PolicyKey, SUPERSESSION, kind_text, state_text,
};
use agentwrit_store::session::{id_prefix, mark_in, pod_mark};
use agentwrit_store::stored_json::{from_json, to_json};
use agentwrit_store::{FromStored, KnownPod, PodStanding, Result, RevocationLevel, Session, Sessions, TxClock};
use async_trait::async_trait;
use rusqlite::{Params, Row, params};

use crate::error::Operation;
use crate::statements::{Statements, scalar};
use crate::tx::SqliteTx;

const READ_POLICY: &str = "read_policy";
const READ_POD: &str = "read_pod";
const READ_DENIALS: &str = "read_denials";

fn from_row(row: &Row<'_>) -> Result<Policy> {
    let text = |column| row.get::<_, String>(column).during(READ_POLICY);
    let optional = |column| row.get::<_, Option<String>>(column).during(READ_POLICY);
    let number = |column| row.get::<_, i64>(column).during(READ_POLICY);
    Ok(Policy {
        key: PolicyKey {
            kind: PolicyKind::from_stored(&text("kind")?)?,
            namespace: text("namespace")?,
            name: text("name")?,
        },
        uid: text("uid")?.into(),
        generation: number("generation")?,
        order: WriteOrder {
            lease_epoch: number("lease_epoch")?,
            sequence: number("sequence")?,
        },
        state: PolicyState::from_stored(&text("state")?)?,
        reason: optional("reason")?,
        digest: text("digest")?,
        accepted: optional("accepted")?
            .map(|text| from_json("accepted policy", &text))
            .transpose()?,
        app_id: optional("app_id")?,
        issued: number("issued")?,
        room_until: number("room_until")?,
    })
}

fn pod_from_row(row: &Row<'_>) -> Result<LivePod> {
    Ok(LivePod {
        uid: row.get("uid").map(|uid: String| uid.into()).during(READ_POD)?,
        namespace: row.get("namespace").during(READ_POD)?,
        name: row.get("name").during(READ_POD)?,
    })
}

fn denial_from_row(row: &Row<'_>) -> Result<Denial> {
    let text = |column| row.get::<_, String>(column).during(READ_DENIALS);
    Ok(Denial {
        cursor: row.get("cursor").during(READ_DENIALS)?,
        at: text("at")?,
        namespace: text("namespace")?,
        pod: text("pod")?,
        pod_uid: text("pod_uid")?.into(),
        policy: text("policy")?,
        error_kind: text("error_kind")?,
        message: text("message")?,
    })
}

impl SqliteTx<'_> {
    fn changed(&self, operation: &'static str, sql: &str, values: impl Params) -> Result<bool> {
        Ok(self.connection.change(operation, sql, values)? > 0)
    }

    fn any(&self, operation: &'static str, sql: &str, values: impl Params) -> Result<bool> {
        Ok(self.connection.first(operation, sql, values, |_| Ok(()))?.is_some())
    }
}

#[async_trait]
impl Policies for SqliteTx<'_> {
    async fn policy(&mut self, key: &PolicyKey) -> Result<Option<Policy>> {
        let sql = "SELECT * FROM policies WHERE kind = ? AND namespace = ? AND name = ?";
        let values = [kind_text(key.kind), &key.namespace, &key.name];
        self.connection.first(READ_POLICY, sql, values, from_row)
    }

    async fn policy_by_client_id(&mut self, client_id: &str) -> Result<Option<Policy>> {
        let sql = "SELECT * FROM policies WHERE client_id = ?";
        self.connection.first(READ_POLICY, sql, [client_id], from_row)
    }

    async fn policies(&mut self) -> Result<Vec<Policy>> {
        let sql = "SELECT * FROM policies ORDER BY kind, namespace, name";
        self.connection.all(READ_POLICY, sql, [], from_row)
    }

    async fn launch_tokens_of_app(&mut self, namespace: &str, app: &str) -> Result<Vec<Policy>> {
        let sql = "SELECT * FROM policies WHERE namespace = ? AND app = ? ORDER BY name";
        self.connection.all(READ_POLICY, sql, [namespace, app], from_row)
    }

    async fn put_policy(&mut self, policy: &Policy) -> Result<()> {
        let accepted = policy.accepted.as_ref();
        let app = accepted
            .and_then(|accepted| accepted.spec.launch_token())
            .map(|spec| &spec.app);
        self.connection.change(
            "save_policy",
            "INSERT OR REPLACE INTO policies (kind, namespace, name, uid, generation, lease_epoch, sequence, state, \
             reason, digest, accepted, app, app_id, issued, room_until, client_id) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                kind_text(policy.key.kind),
                policy.key.namespace,
                policy.key.name,
                policy.uid.as_str(),
                policy.generation,
                policy.order.lease_epoch,
                policy.order.sequence,
                state_text(policy.state),
                policy.reason,
                policy.digest,
                accepted
                    .map(|accepted| to_json("accepted policy", accepted))
                    .transpose()?,
                app,
                policy.app_id,
                policy.issued,
                policy.room_until,
                policy.client_id(),
            ],
        )?;
        Ok(())
    }

    async fn remove_policy(&mut self, key: &PolicyKey) -> Result<()> {
        let sql = "DELETE FROM policies WHERE kind = ? AND namespace = ? AND name = ?";
        let values = [kind_text(key.kind), &key.namespace, &key.name];
        self.connection.change("remove_policy", sql, values).map(drop)
    }

    async fn count_issued(&mut self, policy_uid: &PolicyUid) -> Result<()> {
        let sql = "UPDATE policies SET issued = issued + 1 WHERE uid = ?";
        self.connection
            .change("save_policy", sql, [policy_uid.as_str()])
            .map(drop)
    }

    async fn set_room_until(&mut self, policy_uid: &PolicyUid, issued: i64) -> Result<()> {
        let sql = "UPDATE policies SET room_until = ?2 WHERE uid = ?1";
        self.connection
            .change("save_policy", sql, params![policy_uid.as_str(), issued])
            .map(drop)
    }

    async fn tombstone_policy(&mut self, uid: &PolicyUid, until: UnixMillis) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO buried_policies (uid, until) VALUES (?, ?)";
        self.connection
            .change("bury_policy", sql, params![uid.as_str(), until.get()])
            .map(drop)
    }

    async fn policy_has_tombstone(&mut self, uid: &PolicyUid) -> Result<bool> {
        self.any(
            READ_POLICY,
            "SELECT 1 FROM buried_policies WHERE uid = ?",
            [uid.as_str()],
        )
    }

    async fn tombstone_pod(&mut self, pod_uid: &PodUid, until: UnixMillis) -> Result<bool> {
        for sql in [
            "DELETE FROM quarantined_pods WHERE pod_uid = ?",
            "DELETE FROM pod_sessions WHERE pod = (SELECT id FROM pods WHERE uid = ?)",
            "DELETE FROM pods WHERE uid = ?",
        ] {
            self.connection.change("bury_pod", sql, [pod_uid.as_str()])?;
        }
        let sql = "INSERT INTO buried_pods (pod_uid, until) VALUES (?, ?) ON CONFLICT DO NOTHING";
        self.changed("bury_pod", sql, params![pod_uid.as_str(), until.get()])
    }

    async fn pod_has_tombstone(&mut self, pod_uid: &PodUid) -> Result<bool> {
        self.any(
            READ_POD,
            "SELECT 1 FROM buried_pods WHERE pod_uid = ?",
            [pod_uid.as_str()],
        )
    }

    async fn pod_standing(&mut self, pod_uid: &PodUid) -> Result<PodStanding> {
        let sql = "SELECT EXISTS (SELECT 1 FROM buried_pods WHERE pod_uid = ?1), \
                   EXISTS (SELECT 1 FROM quarantined_pods WHERE pod_uid = ?1) OR EXISTS (SELECT 1 FROM revocations \
                   WHERE level = ?2 AND target = ?1 AND (until IS NULL OR until > ?3))";
        let values = params![
            pod_uid.as_str(),
            RevocationLevel::Task.as_str(),
            self.times.passed().get()
        ];
        let found = self.connection.first(READ_POD, sql, values, |row| {
            let is = |column| row.get::<_, bool>(column).during(READ_POD);
            Ok((is(0)?, is(1)?))
        })?;
        Ok(match found.unwrap_or_default() {
            (true, _) => PodStanding::Ended,
            (false, true) => PodStanding::Quarantined,
            (false, false) => PodStanding::Stands,
        })
    }

    async fn know_pod(&mut self, known: &KnownPod) -> Result<()> {
        let sql = "INSERT INTO pods (uid, namespace, name, node, service_account, policy, orch_id) \
                   VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uid) DO UPDATE SET node = excluded.node, \
                   service_account = excluded.service_account, policy = excluded.policy, orch_id = excluded.orch_id \
                   WHERE (pods.node, pods.service_account, pods.policy, pods.orch_id) IS NOT \
                   (excluded.node, excluded.service_account, excluded.policy, excluded.orch_id)";
        let pod = &known.pod;
        let values = params![
            pod.uid.as_str(),
            pod.namespace,
            pod.name,
            known.node,
            known.service_account,
            known.policy,
            known.orch_id.as_str(),
        ];
        if self.changed("save_pod", sql, values)? {
            let sql = "UPDATE quarantined_pods SET until = NULL WHERE pod_uid = ?";
            self.changed("save_pod", sql, [pod.uid.as_str()])?;
        }
        Ok(())
    }

    async fn pod_is_known(&mut self, pod_uid: &PodUid) -> Result<bool> {
        self.any(READ_POD, "SELECT 1 FROM pods WHERE uid = ?", [pod_uid.as_str()])
    }

    async fn known_pods(&mut self) -> Result<Vec<LivePod>> {
        let sql = "SELECT uid, namespace, name FROM pods";
        self.connection.all(READ_POD, sql, [], pod_from_row)
    }

    async fn know_session_of_pod(&mut self, pod_uid: &PodUid, sid: &SessionId) -> Result<()> {
        if pod_mark(pod_uid) == Some(mark_in(sid)) {
            return Ok(());
        }
        let sql = "INSERT INTO pod_sessions (stem, pod) SELECT unhex(?1), id FROM pods WHERE uid = ?2 \
                   AND (SELECT COUNT(*) FROM pod_sessions WHERE pod = id) < ?3";
        self.connection
            .change(
                "save_pod",
                sql,
                params![id_prefix(sid), pod_uid.as_str(), MAX_UNMARKED_SESSIONS],
            )
            .map(drop)
    }

    async fn pods_of_token(&mut self, jti: &Jti) -> Result<Vec<PodUid>> {
        let prefix = id_prefix(jti);
        // A session that is kept knows for sure, also that it is no pod's.
        let kept = "SELECT coalesce(pod_uid, '') FROM sessions WHERE sid >= ?1 AND sid < ?1 || 'g'";
        let kept: Vec<String> = self.connection.all(READ_POD, kept, [prefix], scalar(READ_POD))?;
        if !kept.is_empty() {
            let mut pods = Vec::new();
            for uid in kept.into_iter().map(PodUid::from) {
                if !pods.contains(&uid) && self.pod_is_known(&uid).await? {
                    pods.push(uid);
                }
            }
            return Ok(pods);
        }
        let by_row = "SELECT uid FROM pods JOIN pod_sessions ON pods.id = pod WHERE stem = unhex(?)";
        let by_mark = "SELECT uid FROM pods WHERE uid >= ?1 AND uid < ?1 || 'g'";
        for (sql, key) in [(by_row, prefix), (by_mark, mark_in(jti))] {
            let pods: Vec<String> = self.connection.all(READ_POD, sql, [key], scalar(READ_POD))?;
            if !pods.is_empty() {
                return Ok(pods.into_iter().map(PodUid::from).collect());
            }
        }
        Ok(Vec::new())
    }

    async fn quarantine_pod(&mut self, pod_uid: &PodUid, by: &str, until: UnixMillis) -> Result<bool> {
        self.changed(
            "quarantine_pod",
            "INSERT INTO quarantined_pods (pod_uid, since, by, until) \
             SELECT ?1, ?2, ?3, iif(EXISTS (SELECT 1 FROM pods WHERE uid = ?1), NULL, ?4) WHERE true \
             ON CONFLICT DO UPDATE SET until = MAX(until, excluded.until) WHERE until < excluded.until",
            params![pod_uid.as_str(), self.now_millis().get(), by, until.get()],
        )
    }

    async fn pod_is_quarantined(&mut self, pod_uid: &PodUid) -> Result<bool> {
        self.any(
            READ_POD,
            "SELECT 1 FROM quarantined_pods WHERE pod_uid = ?",
            [pod_uid.as_str()],
        )
    }

    async fn release_pod(&mut self, pod_uid: &PodUid) -> Result<bool> {
        let sql = "DELETE FROM quarantined_pods WHERE pod_uid = ?";
        self.changed("release_pod", sql, [pod_uid.as_str()])
    }

    async fn launches_full_at(&mut self, pod_uid: &PodUid) -> Result<Option<UnixMillis>> {
        let sql = "SELECT full_at FROM pod_launches WHERE pod_uid = ?";
        let full_at = self
            .connection
            .first(READ_POD, sql, [pod_uid.as_str()], scalar(READ_POD))?;
        Ok(full_at.map(UnixMillis::new))
    }

    async fn set_launches_full_at(&mut self, pod_uid: &PodUid, full_at: UnixMillis) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO pod_launches (pod_uid, full_at) VALUES (?, ?)";
        self.connection
            .change("save_pod", sql, params![pod_uid.as_str(), full_at.get()])
            .map(drop)
    }

    async fn last_session_of_pod(&mut self, pod_uid: &PodUid) -> Result<Option<Session>> {
        let sql = "SELECT sid FROM sessions WHERE pod_uid = ? ORDER BY created_at DESC LIMIT 1";
        let sid: Option<String> = self
            .connection
            .first(READ_POD, sql, [pod_uid.as_str()], scalar(READ_POD))?;
        match sid {
            Some(sid) => self.session(&sid.into()).await,
            None => Ok(None),
        }
    }

    async fn count_supersession(&mut self, pod_uid: &PodUid, since: UnixMillis) -> Result<i64> {
        let sql = "INSERT INTO pod_supersessions (pod_uid, at) VALUES (?, ?)";
        self.connection
            .change("save_pod", sql, params![pod_uid.as_str(), self.now_millis().get()])?;
        let sql = "SELECT COUNT(*) FROM pod_supersessions WHERE pod_uid = ? AND at >= ?";
        let count = self
            .connection
            .first(READ_POD, sql, params![pod_uid.as_str(), since.get()], scalar(READ_POD))?;
        Ok(count.unwrap_or_default())
    }

    async fn add_denial(&mut self, denial: &NewDenial) -> Result<()> {
        const OPERATION: &str = "save_denial";
        self.connection.change(
            OPERATION,
            "INSERT INTO denials (at, namespace, pod, pod_uid, policy, error_kind, message) VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                rfc3339_seconds(self.now_seconds()),
                denial.pod.namespace,
                denial.pod.name,
                denial.pod.uid.as_str(),
                denial.policy,
                denial.error_kind,
                denial.message,
            ],
        )?;
        // The namespace that has most of them loses its oldest, so that it can't push out those of the others.
        let sql = "DELETE FROM denials WHERE (SELECT COUNT(*) FROM denials) > ? AND cursor = (SELECT MIN(cursor) \
                   FROM denials GROUP BY namespace ORDER BY COUNT(*) DESC, MIN(cursor) LIMIT 1)";
        self.connection.change(OPERATION, sql, [MAX_DENIALS]).map(drop)
    }

    async fn denials(&mut self, after: i64, limit: i64) -> Result<Vec<Denial>> {
        // A cursor from before the store was lost would hide everything until the new one has caught up.
        let sql = "SELECT MAX(cursor) FROM denials";
        let newest: Option<i64> = self
            .connection
            .first(READ_DENIALS, sql, [], scalar(READ_DENIALS))?
            .flatten();
        let after = if newest.is_some_and(|newest| after > newest) {
            0
        } else {
            after
        };
        let sql = "SELECT * FROM denials WHERE cursor > ? ORDER BY cursor LIMIT ?";
        self.connection.all(READ_DENIALS, sql, [after, limit], denial_from_row)
    }

    async fn purge_policy_rows(&mut self) -> Result<()> {
        // A jump of the wall clock alone must not remove a tombstone.
        let now = self.times.passed();
        let statements = [
            ("DELETE FROM buried_policies WHERE until < ?", now),
            ("DELETE FROM buried_pods WHERE until < ?", now),
            ("DELETE FROM quarantined_pods WHERE until < ?", now),
            ("DELETE FROM pod_launches WHERE full_at < ?", now),
            ("DELETE FROM pod_supersessions WHERE at < ?", now - SUPERSESSION),
        ];
        for (statement, limit) in statements {
            self.connection.change("prune", statement, [limit.get()])?;
        }
        Ok(())
    }
}
