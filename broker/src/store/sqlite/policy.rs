//! Rows of policies.

use agentwrit_protocol::k8s::{Denial, LivePod, PolicyKind, PolicyState, WriteOrder};
use async_trait::async_trait;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Error, Row, Sqlite};

use super::SqliteTx;
use super::launch::{from_json, to_json};
use crate::store::policy::{NewDenial, Policies, Policy, PolicyKey};
use crate::store::{Operation, Result, Session, Sessions, StoreError};
use crate::timestamp::rfc3339_seconds;

/// Rows that the feed of refusals keeps.
const MAX_DENIALS: i64 = 1_000;
/// How long a supersession counts, milliseconds; longer than any window that is asked for.
const SUPERSESSION_MS: i64 = 3_600_000;

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

const fn kind_text(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::App => "app",
        PolicyKind::LaunchToken => "launch_token",
    }
}

fn kind_from(text: &str) -> Result<PolicyKind> {
    match text {
        "app" => Ok(PolicyKind::App),
        "launch_token" => Ok(PolicyKind::LaunchToken),
        other => Err(corrupt("policy kind", other)),
    }
}

const fn state_text(state: PolicyState) -> &'static str {
    match state {
        PolicyState::Ready => "ready",
        PolicyState::NotReady => "not_ready",
        PolicyState::Suspended => "suspended",
    }
}

fn state_from(text: &str) -> Result<PolicyState> {
    match text {
        "ready" => Ok(PolicyState::Ready),
        "not_ready" => Ok(PolicyState::NotReady),
        "suspended" => Ok(PolicyState::Suspended),
        other => Err(corrupt("policy state", other)),
    }
}

fn corrupt(what: &'static str, text: &str) -> StoreError {
    StoreError::Corrupt {
        what,
        why: format!("{text:?}"),
    }
}

fn from_row(row: &SqliteRow) -> Result<Policy> {
    let read = || -> std::result::Result<_, Error> {
        let policy = Policy {
            key: PolicyKey::new(PolicyKind::App, row.try_get("namespace")?, row.try_get("name")?),
            uid: row.try_get("uid")?,
            generation: row.try_get("generation")?,
            order: WriteOrder {
                lease_epoch: row.try_get("lease_epoch")?,
                sequence: row.try_get("sequence")?,
            },
            state: PolicyState::NotReady,
            reason: row.try_get("reason")?,
            digest: row.try_get("digest")?,
            accepted: None,
            app_id: row.try_get("app_id")?,
            issued: row.try_get("issued")?,
        };
        let kind: String = row.try_get("kind")?;
        let state: String = row.try_get("state")?;
        let accepted: Option<String> = row.try_get("accepted")?;
        Ok((policy, kind, state, accepted))
    };
    let (mut policy, kind, state, accepted) = read().during("read_policy")?;
    policy.key.kind = kind_from(&kind)?;
    policy.state = state_from(&state)?;
    policy.accepted = accepted.map(|text| from_json("accepted policy", &text)).transpose()?;
    Ok(policy)
}

impl SqliteTx<'_> {
    async fn policy_rows(&mut self, query: Query<'_>) -> Result<Vec<Policy>> {
        let rows = query.fetch_all(&mut *self.connection).await.during("read_policy")?;
        rows.iter().map(from_row).collect()
    }

    async fn changed(&mut self, query: Query<'_>, operation: &'static str) -> Result<bool> {
        let done = query.execute(&mut *self.connection).await.during(operation)?;
        Ok(done.rows_affected() > 0)
    }

    async fn any(&mut self, query: Query<'_>, operation: &'static str) -> Result<bool> {
        let row = query.fetch_optional(&mut *self.connection).await.during(operation)?;
        Ok(row.is_some())
    }
}

#[async_trait]
impl Policies for SqliteTx<'_> {
    async fn policy(&mut self, key: &PolicyKey) -> Result<Option<Policy>> {
        let query = sqlx::query("SELECT * FROM policies WHERE kind = ? AND namespace = ? AND name = ?")
            .bind(kind_text(key.kind))
            .bind(&key.namespace)
            .bind(&key.name);
        Ok(self.policy_rows(query).await?.pop())
    }

    async fn policies(&mut self) -> Result<Vec<Policy>> {
        self.policy_rows(sqlx::query("SELECT * FROM policies ORDER BY kind, namespace, name"))
            .await
    }

    async fn launch_tokens_of_app(&mut self, namespace: &str, app: &str) -> Result<Vec<Policy>> {
        let query = sqlx::query("SELECT * FROM policies WHERE namespace = ? AND app = ? ORDER BY name")
            .bind(namespace)
            .bind(app);
        self.policy_rows(query).await
    }

    async fn put_policy(&mut self, policy: &Policy) -> Result<()> {
        let accepted = policy.accepted.as_ref();
        let app = accepted
            .and_then(|accepted| accepted.spec.launch_token())
            .map(|spec| &spec.app);
        let query = sqlx::query(
            "INSERT OR REPLACE INTO policies (kind, namespace, name, uid, generation, lease_epoch, sequence, state, \
             reason, digest, accepted, app, app_id, issued) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(kind_text(policy.key.kind))
        .bind(&policy.key.namespace)
        .bind(&policy.key.name)
        .bind(&policy.uid)
        .bind(policy.generation)
        .bind(policy.order.lease_epoch)
        .bind(policy.order.sequence)
        .bind(state_text(policy.state))
        .bind(&policy.reason)
        .bind(&policy.digest)
        .bind(
            accepted
                .map(|accepted| to_json("accepted policy", accepted))
                .transpose()?,
        )
        .bind(app)
        .bind(&policy.app_id)
        .bind(policy.issued);
        self.changed(query, "save_policy").await?;
        Ok(())
    }

    async fn remove_policy(&mut self, key: &PolicyKey) -> Result<()> {
        let query = sqlx::query("DELETE FROM policies WHERE kind = ? AND namespace = ? AND name = ?")
            .bind(kind_text(key.kind))
            .bind(&key.namespace)
            .bind(&key.name);
        self.changed(query, "remove_policy").await?;
        Ok(())
    }

    async fn count_issued(&mut self, policy_uid: &str) -> Result<()> {
        let query = sqlx::query("UPDATE policies SET issued = issued + 1 WHERE uid = ?").bind(policy_uid);
        self.changed(query, "save_policy").await?;
        Ok(())
    }

    async fn bury_policy(&mut self, uid: &str, until: i64) -> Result<()> {
        let query = sqlx::query("INSERT OR REPLACE INTO buried_policies (uid, until) VALUES (?, ?)")
            .bind(uid)
            .bind(until);
        self.changed(query, "bury_policy").await?;
        Ok(())
    }

    async fn policy_is_buried(&mut self, uid: &str) -> Result<bool> {
        let query = sqlx::query("SELECT 1 FROM buried_policies WHERE uid = ?").bind(uid);
        self.any(query, "read_policy").await
    }

    async fn bury_pod(&mut self, pod_uid: &str, until: i64) -> Result<bool> {
        let query = sqlx::query("INSERT INTO buried_pods (pod_uid, until) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(pod_uid)
            .bind(until);
        self.changed(query, "bury_pod").await
    }

    async fn pod_is_buried(&mut self, pod_uid: &str) -> Result<bool> {
        let query = sqlx::query("SELECT 1 FROM buried_pods WHERE pod_uid = ?").bind(pod_uid);
        self.any(query, "read_pod").await
    }

    async fn quarantine_pod(&mut self, pod: &LivePod, by: &str) -> Result<bool> {
        let since = self.millis();
        let query = sqlx::query(
            "INSERT INTO quarantined_pods (pod_uid, namespace, name, since, by) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT DO NOTHING",
        )
        .bind(&pod.uid)
        .bind(&pod.namespace)
        .bind(&pod.name)
        .bind(since)
        .bind(by);
        self.changed(query, "quarantine_pod").await
    }

    async fn pod_is_quarantined(&mut self, pod_uid: &str) -> Result<bool> {
        let query = sqlx::query("SELECT 1 FROM quarantined_pods WHERE pod_uid = ?").bind(pod_uid);
        self.any(query, "read_pod").await
    }

    async fn quarantined_pods(&mut self) -> Result<Vec<LivePod>> {
        let rows = sqlx::query("SELECT pod_uid, namespace, name FROM quarantined_pods ORDER BY pod_uid")
            .fetch_all(&mut *self.connection)
            .await
            .during("read_pod")?;
        rows.iter()
            .map(|row| {
                Ok(LivePod {
                    uid: row.try_get("pod_uid")?,
                    namespace: row.try_get("namespace")?,
                    name: row.try_get("name")?,
                })
            })
            .collect::<std::result::Result<_, Error>>()
            .during("read_pod")
    }

    async fn release_pod(&mut self, pod_uid: &str) -> Result<bool> {
        let query = sqlx::query("DELETE FROM quarantined_pods WHERE pod_uid = ?").bind(pod_uid);
        self.changed(query, "release_pod").await
    }

    async fn launches_full_at(&mut self, pod_uid: &str) -> Result<Option<i64>> {
        sqlx::query_scalar("SELECT full_at FROM pod_launches WHERE pod_uid = ?")
            .bind(pod_uid)
            .fetch_optional(&mut *self.connection)
            .await
            .during("read_pod")
    }

    async fn set_launches_full_at(&mut self, pod_uid: &str, full_at: i64) -> Result<()> {
        let query = sqlx::query("INSERT OR REPLACE INTO pod_launches (pod_uid, full_at) VALUES (?, ?)")
            .bind(pod_uid)
            .bind(full_at);
        self.changed(query, "save_pod").await?;
        Ok(())
    }

    async fn last_session_of_pod(&mut self, pod_uid: &str) -> Result<Option<Session>> {
        let sid: Option<String> =
            sqlx::query_scalar("SELECT sid FROM sessions WHERE pod_uid = ? ORDER BY created_at DESC LIMIT 1")
                .bind(pod_uid)
                .fetch_optional(&mut *self.connection)
                .await
                .during("read_session")?;
        match sid {
            Some(sid) => self.session(&sid).await,
            None => Ok(None),
        }
    }

    async fn count_supersession(&mut self, pod_uid: &str, since: i64) -> Result<i64> {
        let now = self.millis();
        let query = sqlx::query("INSERT INTO pod_supersessions (pod_uid, at) VALUES (?, ?)")
            .bind(pod_uid)
            .bind(now);
        self.changed(query, "save_pod").await?;
        sqlx::query_scalar("SELECT COUNT(*) FROM pod_supersessions WHERE pod_uid = ? AND at >= ?")
            .bind(pod_uid)
            .bind(since)
            .fetch_one(&mut *self.connection)
            .await
            .during("read_pod")
    }

    async fn add_denial(&mut self, denial: &NewDenial) -> Result<()> {
        let at = rfc3339_seconds(self.now.unix_timestamp());
        let done = sqlx::query(
            "INSERT INTO denials (at, namespace, pod, pod_uid, policy, error_kind, message) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(at)
        .bind(&denial.pod.namespace)
        .bind(&denial.pod.name)
        .bind(&denial.pod.uid)
        .bind(&denial.policy)
        .bind(denial.error_kind)
        .bind(&denial.message)
        .execute(&mut *self.connection)
        .await
        .during("save_denial")?;
        let oldest = done.last_insert_rowid().saturating_sub(MAX_DENIALS);
        let query = sqlx::query("DELETE FROM denials WHERE cursor <= ?").bind(oldest);
        self.changed(query, "save_denial").await?;
        Ok(())
    }

    async fn denials(&mut self, after: i64, limit: i64) -> Result<Vec<Denial>> {
        // A cursor from before the store was lost would hide everything until the new one has caught up.
        let newest: Option<i64> = sqlx::query_scalar("SELECT MAX(cursor) FROM denials")
            .fetch_one(&mut *self.connection)
            .await
            .during("read_denials")?;
        let after = if newest.is_some_and(|newest| after > newest) {
            0
        } else {
            after
        };
        let rows = sqlx::query("SELECT * FROM denials WHERE cursor > ? ORDER BY cursor LIMIT ?")
            .bind(after)
            .bind(limit)
            .fetch_all(&mut *self.connection)
            .await
            .during("read_denials")?;
        rows.iter()
            .map(|row| {
                Ok(Denial {
                    cursor: row.try_get("cursor")?,
                    at: row.try_get("at")?,
                    namespace: row.try_get("namespace")?,
                    pod: row.try_get("pod")?,
                    pod_uid: row.try_get("pod_uid")?,
                    policy: row.try_get("policy")?,
                    error_kind: row.try_get("error_kind")?,
                    message: row.try_get("message")?,
                })
            })
            .collect::<std::result::Result<_, Error>>()
            .during("read_denials")
    }

    async fn purge_policy_rows(&mut self) -> Result<()> {
        let now = self.millis();
        let statements = [
            ("DELETE FROM buried_policies WHERE until < ?", now),
            ("DELETE FROM buried_pods WHERE until < ?", now),
            ("DELETE FROM pod_launches WHERE full_at < ?", now),
            (
                "DELETE FROM pod_supersessions WHERE at < ?",
                now.saturating_sub(SUPERSESSION_MS),
            ),
        ];
        for (statement, limit) in statements {
            self.changed(sqlx::query(statement).bind(limit), "prune").await?;
        }
        Ok(())
    }
}
