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

use crate::row::Row;
use crate::tx::PgTx;
use crate::value::values;

const READ_POLICY: &str = "read_policy";
const READ_POD: &str = "read_pod";
const READ_DENIALS: &str = "read_denials";
const SAVE_POD: &str = "save_pod";

fn from_row(row: &Row<'_>) -> Result<Policy> {
    Ok(Policy {
        key: PolicyKey {
            kind: PolicyKind::from_stored(&row.text("kind")?)?,
            namespace: row.text("namespace")?,
            name: row.text("name")?,
        },
        uid: row.text("uid")?.into(),
        generation: row.whole("generation")?,
        order: WriteOrder {
            lease_epoch: row.whole("lease_epoch")?,
            sequence: row.whole("sequence")?,
        },
        state: PolicyState::from_stored(&row.text("state")?)?,
        reason: row.any_text("reason")?,
        digest: row.text("digest")?,
        accepted: row
            .any_text("accepted")?
            .map(|text| from_json("accepted policy", &text))
            .transpose()?,
        app_id: row.any_text("app_id")?,
        issued: row.whole("issued")?,
        room_until: row.whole("room_until")?,
    })
}

fn pod_from_row(row: &Row<'_>) -> Result<LivePod> {
    Ok(LivePod {
        uid: row.text("uid")?.into(),
        namespace: row.text("namespace")?,
        name: row.text("name")?,
    })
}

fn denial_from_row(row: &Row<'_>) -> Result<Denial> {
    Ok(Denial {
        cursor: row.whole("cursor")?,
        at: row.text("at")?,
        namespace: row.text("namespace")?,
        pod: row.text("pod")?,
        pod_uid: row.text("pod_uid")?.into(),
        policy: row.text("policy")?,
        error_kind: row.text("error_kind")?,
        message: row.text("message")?,
    })
}

fn uid_of(row: &Row<'_>) -> Result<PodUid> {
    row.text("uid").map(PodUid::from)
}

#[async_trait]
impl Policies for PgTx<'_, '_> {
    async fn policy(&mut self, key: &PolicyKey) -> Result<Option<Policy>> {
        let sql = select!(policies, "WHERE kind = $1 AND namespace = $2 AND name = $3");
        let values = values![kind_text(key.kind), &key.namespace, &key.name];
        self.link.first(READ_POLICY, sql, values, from_row).await
    }

    async fn policy_by_client_id(&mut self, client_id: &str) -> Result<Option<Policy>> {
        let sql = select!(policies, "WHERE client_id = $1");
        self.link.first(READ_POLICY, sql, values![client_id], from_row).await
    }

    async fn policies(&mut self) -> Result<Vec<Policy>> {
        let sql = select!(policies, "ORDER BY kind, namespace, name");
        self.link.all(READ_POLICY, sql, values![], from_row).await
    }

    async fn launch_tokens_of_app(&mut self, namespace: &str, app: &str) -> Result<Vec<Policy>> {
        let sql = select!(policies, "WHERE namespace = $1 AND app = $2 ORDER BY name");
        self.link.all(READ_POLICY, sql, values![namespace, app], from_row).await
    }

    async fn put_policy(&mut self, policy: &Policy) -> Result<()> {
        let accepted = policy.accepted.as_ref();
        let app = accepted
            .and_then(|accepted| accepted.spec.launch_token())
            .map(|spec| spec.app.as_str());
        let sql = "INSERT INTO policies (kind, namespace, name, uid, generation, lease_epoch, sequence, state, reason, \
                   digest, accepted, app, app_id, issued, room_until, client_id) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
                   ON CONFLICT (kind, namespace, name) DO UPDATE SET uid = excluded.uid, \
                   generation = excluded.generation, lease_epoch = excluded.lease_epoch, sequence = excluded.sequence, \
                   state = excluded.state, reason = excluded.reason, digest = excluded.digest, \
                   accepted = excluded.accepted, app = excluded.app, app_id = excluded.app_id, issued = excluded.issued, \
                   room_until = excluded.room_until, client_id = excluded.client_id";
        let values = values![
            kind_text(policy.key.kind),
            &policy.key.namespace,
            &policy.key.name,
            policy.uid.as_str(),
            policy.generation,
            policy.order.lease_epoch,
            policy.order.sequence,
            state_text(policy.state),
            policy.reason.as_deref(),
            &policy.digest,
            accepted
                .map(|accepted| to_json("accepted policy", accepted))
                .transpose()?,
            app,
            policy.app_id.as_deref(),
            policy.issued,
            policy.room_until,
            policy.client_id(),
        ];
        self.link.send("save_policy", sql, values).await
    }

    async fn remove_policy(&mut self, key: &PolicyKey) -> Result<()> {
        let sql = "DELETE FROM policies WHERE kind = $1 AND namespace = $2 AND name = $3";
        let values = values![kind_text(key.kind), &key.namespace, &key.name];
        self.link.send("remove_policy", sql, values).await
    }

    async fn count_issued(&mut self, policy_uid: &PolicyUid) -> Result<()> {
        let sql = "UPDATE policies SET issued = issued + 1 WHERE uid = $1";
        self.link.send("save_policy", sql, values![policy_uid.as_str()]).await
    }

    async fn set_room_until(&mut self, policy_uid: &PolicyUid, issued: i64) -> Result<()> {
        let sql = "UPDATE policies SET room_until = $2 WHERE uid = $1";
        let values = values![policy_uid.as_str(), issued];
        self.link.send("save_policy", sql, values).await
    }

    async fn tombstone_policy(&mut self, uid: &PolicyUid, until: UnixMillis) -> Result<()> {
        let sql = "INSERT INTO buried_policies (uid, until) VALUES ($1, $2) \
                   ON CONFLICT (uid) DO UPDATE SET until = excluded.until";
        let values = values![uid.as_str(), until.get()];
        self.link.send("bury_policy", sql, values).await
    }

    async fn policy_has_tombstone(&mut self, uid: &PolicyUid) -> Result<bool> {
        let sql = "SELECT true FROM buried_policies WHERE uid = $1";
        self.any(READ_POLICY, sql, values![uid.as_str()]).await
    }

    async fn tombstone_pod(&mut self, pod_uid: &PodUid, until: UnixMillis) -> Result<bool> {
        const OPERATION: &str = "bury_pod";
        for sql in [
            "DELETE FROM quarantined_pods WHERE pod_uid = $1",
            "DELETE FROM pod_sessions WHERE pod = (SELECT id FROM pods WHERE uid = $1)",
            "DELETE FROM pods WHERE uid = $1",
        ] {
            self.link.send(OPERATION, sql, values![pod_uid.as_str()]).await?;
        }
        let sql = "INSERT INTO buried_pods (pod_uid, until) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        self.changed(OPERATION, sql, values![pod_uid.as_str(), until.get()])
            .await
    }

    async fn pod_has_tombstone(&mut self, pod_uid: &PodUid) -> Result<bool> {
        let sql = "SELECT true FROM buried_pods WHERE pod_uid = $1";
        self.any(READ_POD, sql, values![pod_uid.as_str()]).await
    }

    async fn pod_standing(&mut self, pod_uid: &PodUid) -> Result<PodStanding> {
        let sql = "SELECT EXISTS (SELECT 1 FROM buried_pods WHERE pod_uid = $1) AS ended, \
                   EXISTS (SELECT 1 FROM quarantined_pods WHERE pod_uid = $1) OR EXISTS (SELECT 1 FROM revocations \
                   WHERE level = $2 AND target_hash(target) = target_hash($1) AND target = $1 AND (until IS NULL OR until > $3)) AS quarantined";
        let values = values![
            pod_uid.as_str(),
            RevocationLevel::Task.as_str(),
            self.times.passed().get()
        ];
        let read = |row: &Row<'_>| Ok((row.flag("ended")?, row.flag("quarantined")?));
        let found = self.link.first(READ_POD, sql, values, read).await?;
        Ok(match found.unwrap_or_default() {
            (true, _) => PodStanding::Ended,
            (false, true) => PodStanding::Quarantined,
            (false, false) => PodStanding::Stands,
        })
    }

    async fn know_pod(&mut self, known: &KnownPod) -> Result<()> {
        let sql = "INSERT INTO pods (uid, namespace, name, node, service_account, policy, orch_id) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (uid) DO UPDATE SET node = excluded.node, \
                   service_account = excluded.service_account, policy = excluded.policy, orch_id = excluded.orch_id \
                   WHERE (pods.node, pods.service_account, pods.policy, pods.orch_id) IS DISTINCT FROM \
                   (excluded.node, excluded.service_account, excluded.policy, excluded.orch_id)";
        let pod = &known.pod;
        let values = values![
            pod.uid.as_str(),
            &pod.namespace,
            &pod.name,
            &known.node,
            &known.service_account,
            &known.policy,
            known.orch_id.as_str(),
        ];
        if self.changed(SAVE_POD, sql, values).await? {
            let sql = "UPDATE quarantined_pods SET until = NULL WHERE pod_uid = $1";
            self.link.send(SAVE_POD, sql, values![pod.uid.as_str()]).await?;
        }
        Ok(())
    }

    async fn pod_is_known(&mut self, pod_uid: &PodUid) -> Result<bool> {
        let sql = "SELECT true FROM pods WHERE uid = $1";
        self.any(READ_POD, sql, values![pod_uid.as_str()]).await
    }

    async fn known_pods(&mut self) -> Result<Vec<LivePod>> {
        let sql = "SELECT uid, namespace, name FROM pods";
        self.link.all(READ_POD, sql, values![], pod_from_row).await
    }

    async fn know_session_of_pod(&mut self, pod_uid: &PodUid, sid: &SessionId) -> Result<()> {
        if pod_mark(pod_uid) == Some(mark_in(sid)) {
            return Ok(());
        }
        let sql = "INSERT INTO pod_sessions (stem, pod) SELECT $1, id FROM pods WHERE uid = $2 \
                   AND (SELECT count(*) FROM pod_sessions WHERE pod = id) < $3";
        let values = values![id_prefix(sid), pod_uid.as_str(), MAX_UNMARKED_SESSIONS];
        self.link.send(SAVE_POD, sql, values).await
    }

    async fn pods_of_token(&mut self, jti: &Jti) -> Result<Vec<PodUid>> {
        let prefix = id_prefix(jti);
        // A session that is kept knows for sure, also that it is no pod's.
        let kept = "SELECT coalesce(pod_uid, '') AS uid FROM sessions WHERE sid >= $1 AND sid < $1 || 'g'";
        let kept = self.link.all(READ_POD, kept, values![prefix], uid_of).await?;
        if !kept.is_empty() {
            let mut pods = Vec::new();
            for uid in kept {
                if !pods.contains(&uid) && self.pod_is_known(&uid).await? {
                    pods.push(uid);
                }
            }
            return Ok(pods);
        }
        let by_row = "SELECT uid FROM pods JOIN pod_sessions ON pods.id = pod WHERE stem = $1";
        let by_mark = "SELECT uid FROM pods WHERE uid >= $1 AND uid < $1 || 'g'";
        for (sql, key) in [(by_row, prefix), (by_mark, mark_in(jti))] {
            let pods = self.link.all(READ_POD, sql, values![key], uid_of).await?;
            if !pods.is_empty() {
                return Ok(pods);
            }
        }
        Ok(Vec::new())
    }

    async fn quarantine_pod(&mut self, pod_uid: &PodUid, by: &str, until: UnixMillis) -> Result<bool> {
        let sql = "INSERT INTO quarantined_pods AS q (pod_uid, since, by_whom, until) \
                   VALUES ($1, $2, $3, CASE WHEN EXISTS (SELECT 1 FROM pods WHERE uid = $1) THEN NULL ELSE $4::bigint END) \
                   ON CONFLICT (pod_uid) DO UPDATE SET until = excluded.until WHERE q.until < excluded.until";
        let values = values![pod_uid.as_str(), self.now_millis().get(), by, until.get()];
        self.changed("quarantine_pod", sql, values).await
    }

    async fn pod_is_quarantined(&mut self, pod_uid: &PodUid) -> Result<bool> {
        let sql = "SELECT true FROM quarantined_pods WHERE pod_uid = $1";
        self.any(READ_POD, sql, values![pod_uid.as_str()]).await
    }

    async fn release_pod(&mut self, pod_uid: &PodUid) -> Result<bool> {
        let sql = "DELETE FROM quarantined_pods WHERE pod_uid = $1";
        self.changed("release_pod", sql, values![pod_uid.as_str()]).await
    }

    async fn launches_full_at(&mut self, pod_uid: &PodUid) -> Result<Option<UnixMillis>> {
        let sql = "SELECT full_at FROM pod_launches WHERE pod_uid = $1";
        let values = values![pod_uid.as_str()];
        self.link
            .first(READ_POD, sql, values, |row| row.millis("full_at"))
            .await
    }

    async fn set_launches_full_at(&mut self, pod_uid: &PodUid, full_at: UnixMillis) -> Result<()> {
        let sql = "INSERT INTO pod_launches (pod_uid, full_at) VALUES ($1, $2) \
                   ON CONFLICT (pod_uid) DO UPDATE SET full_at = excluded.full_at";
        self.link
            .send(SAVE_POD, sql, values![pod_uid.as_str(), full_at.get()])
            .await
    }

    async fn last_session_of_pod(&mut self, pod_uid: &PodUid) -> Result<Option<Session>> {
        let sql = "SELECT sid FROM sessions WHERE pod_uid = $1 ORDER BY created_at DESC LIMIT 1";
        let values = values![pod_uid.as_str()];
        let sid = self.link.first(READ_POD, sql, values, |row| row.text("sid")).await?;
        match sid {
            Some(sid) => self.session(&sid.into()).await,
            None => Ok(None),
        }
    }

    async fn count_supersession(&mut self, pod_uid: &PodUid, since: UnixMillis) -> Result<i64> {
        let sql = "INSERT INTO pod_supersessions (pod_uid, at) VALUES ($1, $2)";
        let values = values![pod_uid.as_str(), self.now_millis().get()];
        self.link.send(SAVE_POD, sql, values).await?;
        let sql = "SELECT count(*) AS found FROM pod_supersessions WHERE pod_uid = $1 AND at >= $2";
        let values = values![pod_uid.as_str(), since.get()];
        let count = self.link.first(READ_POD, sql, values, |row| row.whole("found")).await?;
        Ok(count.unwrap_or_default())
    }

    async fn add_denial(&mut self, denial: &NewDenial) -> Result<()> {
        const OPERATION: &str = "save_denial";
        let sql = "INSERT INTO denials (at, namespace, pod, pod_uid, policy, error_kind, message) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let values = values![
            rfc3339_seconds(self.now_seconds()),
            &denial.pod.namespace,
            &denial.pod.name,
            denial.pod.uid.as_str(),
            &denial.policy,
            denial.error_kind,
            &denial.message,
        ];
        self.link.send(OPERATION, sql, values).await?;
        // The namespace that has most of them loses its oldest, so that it can't push out those of the others.
        let sql = "DELETE FROM denials WHERE (SELECT count(*) FROM denials) > $1 AND cursor = (SELECT min(cursor) \
                   FROM denials GROUP BY namespace ORDER BY count(*) DESC, min(cursor) LIMIT 1)";
        self.link.send(OPERATION, sql, values![MAX_DENIALS]).await
    }

    async fn denials(&mut self, after: i64, limit: i64) -> Result<Vec<Denial>> {
        // A cursor from before the store was lost would hide everything until the new one has caught up.
        let sql = select!(
            denials,
            "WHERE cursor > CASE WHEN $1 > (SELECT max(cursor) FROM denials) THEN 0 ELSE $1 END \
                   ORDER BY cursor LIMIT $2"
        );
        self.link
            .all(READ_DENIALS, sql, values![after, limit], denial_from_row)
            .await
    }

    async fn purge_policy_rows(&mut self) -> Result<()> {
        // A jump of the wall clock alone must not remove a tombstone.
        let now = self.times.passed();
        let statements = [
            ("DELETE FROM buried_policies WHERE until < $1", now),
            ("DELETE FROM buried_pods WHERE until < $1", now),
            ("DELETE FROM quarantined_pods WHERE until < $1", now),
            ("DELETE FROM pod_launches WHERE full_at < $1", now),
            ("DELETE FROM pod_supersessions WHERE at < $1", now - SUPERSESSION),
        ];
        for (statement, limit) in statements {
            self.link.send("prune", statement, values![limit.get()]).await?;
        }
        Ok(())
    }
}
