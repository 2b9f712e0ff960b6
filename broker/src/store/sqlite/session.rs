//! Rows of sessions.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};

use super::SqliteTx;
use super::launch::{attested, from_json, to_json};
use crate::store::{EndReason, Ledger, Operation, Renewal, Result, Session, Sessions};
use crate::view::ViewChange;

/// The end of every query for live sessions; the placeholders are the current second and millisecond.
macro_rules! live {
    ($condition:literal) => {
        concat!(
            "SELECT * FROM sessions WHERE ",
            $condition,
            " AND exp >= ? AND (ended_at IS NULL OR ended_at > ?)"
        )
    };
}

/// The same for sessions whose tokens still stand; the placeholders are current second and millisecond.
macro_rules! standing {
    ($condition:literal) => {
        concat!(
            "SELECT * FROM sessions WHERE ",
            $condition,
            " AND MAX(exp, COALESCE(prev_exp, 0)) >= ? AND (ended_at IS NULL OR ended_at > ?)"
        )
    };
}

fn from_row(row: &SqliteRow) -> Result<Session> {
    let text = |column| row.try_get::<String, _>(column);
    let optional = |column| row.try_get::<Option<String>, _>(column);
    let number = |column| row.try_get::<Option<i64>, _>(column);
    let read = || -> std::result::Result<_, Error> {
        let previous = match (optional("prev_jti")?, number("prev_until")?, number("prev_exp")?) {
            (Some(jti), Some(until), Some(exp)) => Some(Renewal {
                jti,
                until,
                exp,
                key: optional("renew_key")?,
            }),
            _ => None,
        };
        let session = Session {
            sid: text("sid")?,
            agent_id: text("agent_id")?,
            orch_id: text("orch_id")?,
            task_id: text("task_id")?,
            scope: Vec::new(),
            jti: text("jti")?,
            iat: row.try_get("iat")?,
            exp: row.try_get("exp")?,
            previous,
            created_at: row.try_get("created_at")?,
            ended_at: number("ended_at")?,
            end_reason: None,
            correlation_id: text("correlation_id")?,
            attested: None,
        };
        Ok((session, text("scope")?, optional("end_reason")?, optional("attested")?))
    };
    let (mut session, scope, reason, bound) = read().during("read_session")?;
    session.scope = from_json("session scope", &scope)?;
    session.end_reason = reason.map(|text| EndReason::from_stored(&text)).transpose()?;
    session.attested = attested(bound)?;
    Ok(session)
}

impl SqliteTx<'_> {
    async fn live_sessions(&mut self, query: &'static str, value: &str) -> Result<Vec<Session>> {
        let now = self.millis();
        let rows = sqlx::query(query)
            .bind(value)
            .bind(self.now.unix_timestamp())
            .bind(now)
            .fetch_all(&mut *self.connection)
            .await
            .during("read_session")?;
        rows.iter().map(from_row).collect()
    }
}

impl SqliteTx<'_> {
    async fn standing_sessions(&mut self, query: &'static str, value: &str) -> Result<Vec<Session>> {
        let (seconds, millis) = (self.now.unix_timestamp(), self.millis());
        let rows = sqlx::query(query)
            .bind(value)
            .bind(seconds)
            .bind(millis)
            .fetch_all(&mut *self.connection)
            .await
            .during("read_session")?;
        rows.iter().map(from_row).collect()
    }
}

#[async_trait]
impl Sessions for SqliteTx<'_> {
    async fn insert_session(&mut self, session: &Session) -> Result<()> {
        let bound = session.attested.as_ref();
        sqlx::query(
            "INSERT INTO sessions (sid, agent_id, orch_id, task_id, scope, jti, iat, exp, created_at, correlation_id, \
             policy_uid, pod_uid, attested) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&session.sid)
        .bind(&session.agent_id)
        .bind(&session.orch_id)
        .bind(&session.task_id)
        .bind(to_json("session scope", &session.scope)?)
        .bind(&session.jti)
        .bind(session.iat)
        .bind(session.exp)
        .bind(session.created_at)
        .bind(&session.correlation_id)
        .bind(bound.map(|bound| &bound.policy_uid))
        .bind(bound.map(|bound| &bound.pod_uid))
        .bind(bound.map(|bound| to_json("attestation", bound)).transpose()?)
        .execute(&mut *self.connection)
        .await
        .during("insert_session")?;
        Ok(())
    }

    async fn session(&mut self, sid: &str) -> Result<Option<Session>> {
        sqlx::query("SELECT * FROM sessions WHERE sid = ?")
            .bind(sid)
            .fetch_optional(&mut *self.connection)
            .await
            .during("read_session")?
            .as_ref()
            .map(from_row)
            .transpose()
    }

    async fn renew_session(
        &mut self,
        session: &Session,
        jti: &str,
        iat: i64,
        exp: i64,
        previous: &Renewal,
    ) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE sessions SET jti = ?, iat = ?, exp = ?, prev_jti = ?, prev_until = ?, prev_exp = ?, renew_key = ? \
             WHERE sid = ? AND jti = ?",
        )
        .bind(jti)
        .bind(iat)
        .bind(exp)
        .bind(&previous.jti)
        .bind(previous.until)
        .bind(previous.exp)
        .bind(&previous.key)
        .bind(&session.sid)
        .bind(&session.jti)
        .execute(&mut *self.connection)
        .await
        .during("renew_session")?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("INSERT INTO spent_tokens (jti, effective_at, exp) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(&previous.jti)
            .bind(previous.until)
            .bind(previous.exp)
            .execute(&mut *self.connection)
            .await
            .during("save_revocation")?;
        self.view_change(ViewChange::TokenSpent {
            jti: previous.jti.clone(),
            effective_at: previous.until,
            until: ViewChange::end_of_second(previous.exp),
        });
        Ok(true)
    }

    async fn end_session(&mut self, session: &Session, reason: EndReason, effective_at: i64) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE sessions SET ended_at = ?1, end_reason = ?2 WHERE sid = ?3 AND (ended_at IS NULL OR ended_at > ?1)",
        )
        .bind(effective_at)
        .bind(reason.as_str())
        .bind(&session.sid)
        .execute(&mut *self.connection)
        .await
        .during("end_session")?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        self.view_change(ViewChange::SessionEnded {
            sid: session.sid.clone(),
            reason,
            effective_at,
            until: ViewChange::end_of_second(session.last_exp()),
        });
        Ok(true)
    }

    async fn live_sessions_by_policy(&mut self, policy_uid: &str) -> Result<Vec<Session>> {
        self.live_sessions(live!("policy_uid = ?"), policy_uid).await
    }

    async fn live_sessions_by_pod(&mut self, pod_uid: &str) -> Result<Vec<Session>> {
        self.live_sessions(live!("pod_uid = ?"), pod_uid).await
    }

    async fn live_sessions_by_orch(&mut self, orch_id: &str) -> Result<Vec<Session>> {
        self.live_sessions(live!("orch_id = ?"), orch_id).await
    }

    async fn standing_sessions_by_agent(&mut self, agent_id: &str) -> Result<Vec<Session>> {
        self.standing_sessions(standing!("agent_id = ?"), agent_id).await
    }

    async fn standing_sessions_by_task(&mut self, task_id: &str) -> Result<Vec<Session>> {
        self.standing_sessions(standing!("task_id = ?"), task_id).await
    }

    async fn standing_session_by_jti(&mut self, jti: &str) -> Result<Option<Session>> {
        let current = self.standing_sessions(standing!("jti = ?"), jti).await?;
        if let Some(session) = current.into_iter().next() {
            return Ok(Some(session));
        }
        let now = self.millis();
        let before = self.standing_sessions(standing!("prev_jti = ?"), jti).await?;
        Ok(before
            .into_iter()
            .find(|session| session.previous.as_ref().is_some_and(|previous| previous.until > now)))
    }

    async fn live_attested_sessions(&mut self) -> Result<Vec<Session>> {
        self.live_sessions(live!("pod_uid > ?"), "").await
    }

    async fn count_live_sessions(&mut self) -> Result<i64> {
        sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE ended_at IS NULL AND exp >= ?")
            .bind(self.now.unix_timestamp())
            .fetch_one(&mut *self.connection)
            .await
            .during("count_sessions")
    }
}
