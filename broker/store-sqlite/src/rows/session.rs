//! Rows of sessions.

use agentwrit_protocol::status_list::StatusIndex;
use agentwrit_protocol::{Jti, OrchId, PodUid, PolicyUid, SessionId, TaskId, UnixMillis, UnixSeconds};
use agentwrit_store::session::{AT_ONCE, Ending, ID_PREFIX, id_prefix, id_prefix_of_agent, kept_until, overlap_until};
use agentwrit_store::stored_json::{attested, from_json, to_json};
use agentwrit_store::{Delegated, EndReason, FromStored, Renewal, Result, Session, Sessions, TxClock};
use async_trait::async_trait;
use rusqlite::{Row, params};

use crate::columns;
use crate::error::Operation;
use crate::indexes::status_index;
use crate::statements::{Statements, scalar};
use crate::tx::SqliteTx;

const READ: &str = "read_session";
/// Whether a session has not ended at the moment of a placeholder. Only a superseded one has an overlap, and thus a
/// moment that counts; any other end holds whatever the clock says.
macro_rules! not_ended {
    () => {
        "(ended_at IS NULL OR (end_reason = 'superseded' AND ended_at > ?))"
    };
}

/// The end of every query for live sessions; the placeholders are the second that both clocks have passed, and the
/// millisecond that is judged by.
macro_rules! live {
    ($condition:literal) => {
        concat!(
            "SELECT * FROM sessions WHERE ",
            $condition,
            " AND exp >= ? AND ",
            not_ended!()
        )
    };
}

/// The same for sessions of which any token still stands, also one that is older than a renewal: what ends sessions looks
/// for these.
macro_rules! standing {
    ($condition:literal) => {
        concat!(
            "SELECT * FROM sessions WHERE ",
            $condition,
            " AND last_exp >= ? AND ",
            not_ended!()
        )
    };
}

fn from_row(row: &Row<'_>) -> Result<Session> {
    let text = |column| row.get::<_, String>(column).during(READ);
    let optional = |column| row.get::<_, Option<String>>(column).during(READ);
    let seconds = |column| row.get(column).map(UnixSeconds::new).during(READ);
    let any_seconds = |column| columns::any_seconds(row, column).during(READ);
    let any_millis = |column| columns::any_millis(row, column).during(READ);
    let previous = match (
        optional("prev_jti")?,
        any_millis("prev_until")?,
        any_seconds("prev_exp")?,
    ) {
        (Some(jti), Some(until), Some(exp)) => Some(Renewal {
            jti: jti.into(),
            until,
            exp,
            key: optional("renew_key")?,
        }),
        _ => None,
    };
    let delegated = match (optional("root")?, optional("nodes")?, any_seconds("ceiling")?) {
        (Some(root), Some(nodes), Some(ceiling)) => Some(Delegated {
            root: root.into(),
            nodes: from_json("delegation nodes", &nodes)?,
            ceiling,
            holder_pod: optional("holder_pod")?.map(PodUid::from),
        }),
        _ => None,
    };
    Ok(Session {
        sid: text("sid")?.into(),
        agent_id: text("agent_id")?,
        orch_id: text("orch_id")?.into(),
        task_id: text("task_id")?.into(),
        scope: from_json("session scope", &text("scope")?)?,
        jti: text("jti")?.into(),
        iat: seconds("iat")?,
        exp: seconds("exp")?,
        last_exp: seconds("last_exp")?,
        previous,
        created_at: row.get("created_at").map(UnixMillis::new).during(READ)?,
        ended_at: any_millis("ended_at")?,
        end_reason: optional("end_reason")?
            .map(|text| EndReason::from_stored(&text))
            .transpose()?,
        correlation_id: text("correlation_id")?,
        attested: attested(optional("attested")?)?,
        delegated,
        barred: row.get("barred").during(READ)?,
        status: status_index(row, "status", READ)?,
    })
}

impl SqliteTx<'_> {
    /// Rows of a query made by [`live`] or [`standing`].
    fn sessions(&self, query: &str, value: &str) -> Result<Vec<Session>> {
        // A token that has expired by one clock only may be valid again: what ends sessions must find it.
        let values = params![value, self.times.passed().second().get(), self.times.judged.get()];
        self.connection.all(READ, query, values, from_row)
    }

    /// Those whose tokens are still valid, of the few whose ids have this prefix.
    fn standing_by_id_prefix(&self, prefix: &str) -> Result<Vec<Session>> {
        let condition = standing!("sid >= ?1 AND sid < ?1 || 'g'");
        self.sessions(condition, prefix)
    }
}

#[async_trait]
impl Sessions for SqliteTx<'_> {
    async fn insert_session(&mut self, session: &mut Session) -> Result<()> {
        // Without them the transaction takes no insertion either.
        session.status = self.indexes.as_mut().map(|indexes| indexes.draw()).transpose()?;
        let session = &*session;
        let bound = session.attested.as_ref();
        let delegated = session.delegated.as_ref();
        self.connection.change(
            "insert_session",
            "INSERT INTO sessions (sid, agent_id, orch_id, task_id, scope, jti, iat, exp, created_at, correlation_id, \
             policy_uid, pod_uid, attested, last_exp, kept_until, root, nodes, parent, ceiling, barred, holder_pod, status, \
             status_set_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
             ?20, ?21, ?22, (SELECT status_set_at FROM sessions WHERE sid = ?18))",
            params![
                session.sid.as_str(),
                session.agent_id,
                session.orch_id.as_str(),
                session.task_id.as_str(),
                to_json("session scope", &session.scope)?,
                session.jti.as_str(),
                session.iat.get(),
                session.exp.get(),
                session.created_at.get(),
                session.correlation_id,
                bound.map(|bound| bound.policy_uid.as_str()),
                bound.map(|bound| bound.pod_uid.as_str()),
                bound.map(|bound| to_json("attestation", bound)).transpose()?,
                session.last_exp.get(),
                kept_until(session.last_exp).get(),
                delegated.map(|delegated| delegated.root.as_str()),
                delegated
                    .map(|delegated| to_json("delegation nodes", &delegated.nodes))
                    .transpose()?,
                delegated.map(|delegated| delegated.above().as_str()),
                delegated.map(|delegated| delegated.ceiling.get()),
                session.barred,
                delegated.and_then(|delegated| delegated.holder_pod.as_deref()),
                session.status.map(StatusIndex::number),
            ],
        )?;
        Ok(())
    }

    async fn session(&mut self, sid: &SessionId) -> Result<Option<Session>> {
        self.connection
            .first(READ, "SELECT * FROM sessions WHERE sid = ?", [sid.as_str()], from_row)
    }

    async fn renew_session(
        &mut self,
        session: &Session,
        jti: &Jti,
        iat: UnixSeconds,
        exp: UnixSeconds,
        previous: &Renewal,
    ) -> Result<bool> {
        let overlap_until = overlap_until(self, previous.until);
        let rows = self.connection.change(
            "renew_session",
            "UPDATE sessions SET jti = ?1, iat = ?2, exp = ?3, last_exp = MAX(last_exp, ?3), prev_jti = ?4, prev_until = ?5, \
             prev_exp = ?6, renew_key = ?7, prev_over = ?8 WHERE sid = ?9 AND jti = ?10",
            params![
                jti.as_str(),
                iat.get(),
                exp.get(),
                previous.jti.as_str(),
                previous.until.get(),
                previous.exp.get(),
                previous.key,
                overlap_until.unwrap_or(AT_ONCE).get(),
                session.sid.as_str(),
                session.jti.as_str()
            ],
        )?;
        if rows == 0 {
            return Ok(false);
        }
        if session.status.is_none() {
            self.give_status_index(&session.sid)?;
        }
        if kept_until(exp) > kept_until(session.last_exp) {
            let sql = "UPDATE sessions SET kept_until = ? WHERE sid = ?";
            self.connection.change(
                "renew_session",
                sql,
                params![kept_until(exp).get(), session.sid.as_str()],
            )?;
        }
        self.view_change(session.renewed_change(jti, exp, previous, overlap_until));
        Ok(true)
    }

    async fn end_session(&mut self, session: &Session, reason: EndReason, effective_at: UnixMillis) -> Result<bool> {
        let ending = Ending::new(self, reason, effective_at);
        let ended_at = ending.ended_at.get();
        let rows = self.connection.change(
            "end_session",
            concat!(
                "UPDATE sessions SET ended_at = ?1, end_reason = ?2, \
                 status_set_at = MIN(coalesce(status_set_at, ?4), ?4) WHERE sid = ?3 AND ",
                not_ended!()
            ),
            params![
                ended_at,
                reason.as_str(),
                session.sid.as_str(),
                ending.set_at.get(),
                ended_at
            ],
        )?;
        if rows == 0 {
            return Ok(false);
        }
        self.set_bits_below(session, ending.set_at)?;
        self.view_change(session.ended_change(ending));
        Ok(true)
    }

    async fn live_sessions_by_policy(&mut self, policy_uid: &PolicyUid) -> Result<Vec<Session>> {
        self.sessions(standing!("policy_uid = ?"), policy_uid)
    }

    async fn count_other_pods(&mut self, policy_uid: &PolicyUid, pod_uid: &PodUid, most: i64) -> Result<i64> {
        const OPERATION: &str = "count_pods";
        let sql = concat!(
            "SELECT COUNT(*) FROM (SELECT DISTINCT pod_uid FROM sessions WHERE policy_uid = ?1 AND pod_uid <> ?2 \
             AND exp >= ?3 AND ",
            not_ended!(),
            " LIMIT ?5)"
        );
        let (seconds, now) = (self.times.passed().second().get(), self.times.judged.get());
        let values = params![policy_uid.as_str(), pod_uid.as_str(), seconds, now, most];
        let count = self.connection.first(OPERATION, sql, values, scalar(OPERATION))?;
        Ok(count.unwrap_or_default())
    }

    async fn live_sessions_by_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>> {
        self.sessions(standing!("pod_uid = ?"), pod_uid)
    }

    async fn unexpired_sessions_by_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>> {
        let sql = "SELECT * FROM sessions WHERE pod_uid = ? AND last_exp >= ?";
        // By both clocks: a token that has expired by the wall clock alone may be valid again.
        let values = params![pod_uid.as_str(), self.times.passed().second().get()];
        self.connection.all(READ, sql, values, from_row)
    }

    async fn unended_sessions_by_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>> {
        let sql = "SELECT * FROM sessions WHERE pod_uid = ? AND (ended_at IS NULL OR ended_at > ?)";
        let values = params![pod_uid.as_str(), self.now_millis().get()];
        self.connection.all(READ, sql, values, from_row)
    }

    async fn forget_scopes_of_pod(&mut self, pod_uid: &PodUid) -> Result<()> {
        let sql = "UPDATE sessions SET scope = '[]' WHERE pod_uid = ? AND ended_at <= ? AND scope <> '[]'";
        let values = params![pod_uid.as_str(), self.times.passed().get()];
        self.connection.change("forget_scopes", sql, values).map(drop)
    }

    async fn standing_delegations_to_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>> {
        self.sessions(standing!("holder_pod = ?"), pod_uid)
    }

    async fn live_sessions_by_orch(&mut self, orch_id: &OrchId) -> Result<Vec<Session>> {
        self.sessions(
            standing!("pod_uid IS NOT NULL AND root IS NULL AND orch_id = ?"),
            orch_id,
        )
    }

    async fn session_of_agent(&mut self, agent_id: &str) -> Result<Option<Session>> {
        let Some(prefix) = id_prefix_of_agent(agent_id) else {
            return Ok(None);
        };
        let sql = "SELECT * FROM sessions WHERE sid >= ?1 AND sid < ?1 || 'g' AND agent_id = ?2 AND root IS NULL";
        self.connection.first(READ, sql, [prefix, agent_id], from_row)
    }

    async fn bar_agent(&mut self, agent_id: &str) -> Result<()> {
        let Some(prefix) = id_prefix_of_agent(agent_id) else {
            return Ok(());
        };
        let sql =
            "UPDATE sessions SET barred = 1 WHERE sid >= ?1 AND sid < ?1 || 'g' AND agent_id = ?2 AND root IS NULL";
        self.connection.change("bar_agent", sql, [prefix, agent_id]).map(drop)
    }

    async fn standing_delegations_of(&mut self, session: &Session) -> Result<Vec<Session>> {
        self.sessions(standing!("parent = ?"), &session.sid)
    }

    async fn count_open_delegations(
        &mut self,
        root: &SessionId,
        below: Option<&SessionId>,
        most: usize,
    ) -> Result<usize> {
        const OPERATION: &str = "count_delegations";
        let sql = "SELECT 1 FROM sessions WHERE root = ?1 AND (ended_at IS NULL OR end_reason = 'superseded') \
                   AND ended_at IS NULL AND last_exp >= ?2 \
                   AND (?4 IS NULL OR substr(nodes, 1, length(?4)) = ?4) LIMIT ?3";
        // Of what descends from it, the JSON begins so.
        let begins = below.map(|below| format!("[\"{below}\","));
        let now = self.times.judged.second().get();
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let open: Vec<i64> = self.connection.all(
            OPERATION,
            sql,
            params![root.as_str(), now, most, begins],
            scalar(OPERATION),
        )?;
        Ok(open.len())
    }

    async fn standing_sessions_by_agent(&mut self, agent_id: &str) -> Result<Vec<Session>> {
        let mut found = self.sessions(standing!("root IS NOT NULL AND agent_id = ?"), agent_id)?;
        if let Some(prefix) = id_prefix_of_agent(agent_id) {
            let own = self.standing_by_id_prefix(prefix)?;
            found.extend(own.into_iter().filter(|session| session.is_own_of(agent_id)));
        }
        Ok(found)
    }

    async fn standing_sessions_by_task(&mut self, task_id: &TaskId) -> Result<Vec<Session>> {
        self.sessions(standing!("task_id = ?"), task_id)
    }

    async fn standing_session_by_jti(&mut self, jti: &Jti) -> Result<Option<Session>> {
        if jti.len() <= ID_PREFIX {
            return Ok(None);
        }
        let now = self.now_millis();
        Ok(self
            .standing_by_id_prefix(id_prefix(jti))?
            .into_iter()
            .find(|session| session.has_token(jti, now)))
    }

    async fn live_attested_sessions(&mut self) -> Result<Vec<Session>> {
        self.sessions(live!("pod_uid > ?"), "")
    }

    async fn count_live_sessions(&mut self) -> Result<i64> {
        const OPERATION: &str = "count_sessions";
        // The first condition is that of an index.
        let sql =
            "SELECT COUNT(*) FROM sessions WHERE kept_until >= ? AND ended_at IS NULL AND root IS NULL AND exp >= ?";
        let now = self.times.judged.second();
        let values = [kept_until(now).get(), now.get()];
        let count = self.connection.first(OPERATION, sql, values, scalar(OPERATION))?;
        Ok(count.unwrap_or_default())
    }
}
