//! Rows of sessions.

use agentwrit_protocol::status_list::StatusIndex;
use agentwrit_protocol::{Jti, OrchId, PodUid, PolicyUid, SessionId, TaskId, UnixMillis, UnixSeconds};
use agentwrit_store::session::{AT_ONCE, Ending, ID_PREFIX, id_prefix, id_prefix_of_agent, kept_until, overlap_until};
use agentwrit_store::stored_json::{attested, from_json, to_json};
use agentwrit_store::{Delegated, EndReason, FromStored, Renewal, Result, Session, Sessions, TxClock};
use async_trait::async_trait;

use crate::link::Link;
use crate::row::Row;
use crate::rows::pods::texts;
use crate::rows::status::status_index;
use crate::tx::PgTx;
use crate::value::{Value, values};

const READ: &str = "read_session";

/// Whether a session has not ended at the moment of the third value. Only a superseded one has an overlap, and thus a
/// moment that counts; any other end holds whatever the clock says.
macro_rules! not_ended {
    () => {
        "(ended_at IS NULL OR (end_reason = 'superseded' AND ended_at > $3))"
    };
}

/// The end of every query for live sessions: the second value is the second that both clocks have passed, the third the
/// millisecond that is judged by.
macro_rules! live {
    ($condition:literal) => {
        select!(sessions, "WHERE ", $condition, " AND exp >= $2 AND ", not_ended!())
    };
}

/// The same for sessions of which any token still stands, also one that is older than a renewal: what ends sessions looks
/// for these.
macro_rules! standing {
    ($condition:literal) => {
        select!(sessions, "WHERE ", $condition, " AND last_exp >= $2 AND ", not_ended!())
    };
}

/// Sets what each row says of `open_root`, after rows came from elsewhere.
pub(crate) const OPEN_ROOTS: &str =
    "UPDATE sessions SET open_root = root WHERE root IS NOT NULL AND (ended_at IS NULL OR end_reason = 'superseded')";

fn from_row(row: &Row<'_>) -> Result<Session> {
    let previous = match (
        row.any_text("prev_jti")?,
        row.any_millis("prev_until")?,
        row.any_seconds("prev_exp")?,
    ) {
        (Some(jti), Some(until), Some(exp)) => Some(Renewal {
            jti: jti.into(),
            until,
            exp,
            key: row.any_text("renew_key")?,
        }),
        _ => None,
    };
    let delegated = match (
        row.any_text("root")?,
        row.any_text("nodes")?,
        row.any_seconds("ceiling")?,
    ) {
        (Some(root), Some(nodes), Some(ceiling)) => Some(Delegated {
            root: root.into(),
            nodes: from_json("delegation nodes", &nodes)?,
            ceiling,
            holder_pod: row.any_text("holder_pod")?.map(PodUid::from),
        }),
        _ => None,
    };
    Ok(Session {
        sid: row.text("sid")?.into(),
        agent_id: row.text("agent_id")?,
        orch_id: row.text("orch_id")?.into(),
        task_id: row.text("task_id")?.into(),
        scope: from_json("session scope", &row.text("scope")?)?,
        jti: row.text("jti")?.into(),
        iat: row.seconds("iat")?,
        exp: row.seconds("exp")?,
        last_exp: row.seconds("last_exp")?,
        previous,
        created_at: row.millis("created_at")?,
        ended_at: row.any_millis("ended_at")?,
        end_reason: row
            .any_text("end_reason")?
            .map(|text| EndReason::from_stored(&text))
            .transpose()?,
        correlation_id: row.text("correlation_id")?,
        attested: attested(row.any_text("attested")?)?,
        delegated,
        barred: row.flag("barred")?,
        status: status_index(row)?,
    })
}

/// Those with these ids.
pub(crate) async fn read_all(link: &mut Link<'_>, sids: Value) -> Result<Vec<Session>> {
    let sql = select!(sessions, "WHERE sid = ANY($1)");
    link.all(READ, sql, vec![sids], from_row).await
}

impl PgTx<'_, '_> {
    /// Rows of a query made by [`live`] or [`standing`].
    async fn sessions(&mut self, query: &'static str, value: &str) -> Result<Vec<Session>> {
        // A token that has expired by one clock only may be valid again: what ends sessions must find it.
        let values = values![value, self.times.passed().second().get(), self.times.judged.get()];
        self.link.all(READ, query, values, from_row).await
    }

    /// As [`Sessions::unexpired_sessions_by_pod`], of several.
    pub(super) async fn sessions_of_pods(&mut self, pods: &[PodUid]) -> Result<Vec<Session>> {
        let sql = select!(sessions, "WHERE pod_uid = ANY($1) AND last_exp >= $2");
        let values = values![texts(pods), self.times.passed().second().get()];
        self.link.all(READ, sql, values, from_row).await
    }

    /// As [`Sessions::standing_delegations_to_pod`], of several.
    pub(super) async fn standing_delegations_to_pods(&mut self, pods: &[PodUid]) -> Result<Vec<Session>> {
        let values = values![texts(pods), self.times.passed().second().get(), self.times.judged.get()];
        self.link
            .all(READ, standing!("holder_pod = ANY($1)"), values, from_row)
            .await
    }

    /// The last session of each of several pods.
    pub(super) async fn last_sessions_of_pods(&mut self, pods: &[PodUid]) -> Result<Vec<Session>> {
        let sql = select!(
            sessions,
            "WHERE sid IN (SELECT DISTINCT ON (pod_uid) sid FROM sessions WHERE pod_uid = ANY($1) \
             ORDER BY pod_uid, created_at DESC)"
        );
        self.link.all(READ, sql, values![texts(pods)], from_row).await
    }

    /// A session or delegation is written; whether this was known to be its token.
    fn forgets_session(&mut self, sid: &SessionId, jti: &Jti) -> bool {
        self.ahead.as_mut().is_some_and(|ahead| ahead.forget_session(sid, jti))
    }

    /// Some of them are written.
    fn forget_sessions(&mut self) {
        if let Some(ahead) = &mut self.ahead {
            ahead.forget_sessions();
        }
    }

    /// Those whose tokens are still valid, of the few whose ids have this prefix.
    async fn standing_by_id_prefix(&mut self, prefix: &str) -> Result<Vec<Session>> {
        self.sessions(standing!("sid >= $1 AND sid < $1 || 'g'"), prefix).await
    }
}

#[async_trait]
impl Sessions for PgTx<'_, '_> {
    async fn insert_session(&mut self, session: &mut Session) -> Result<()> {
        session.status = self.draw_status_index().await?;
        let session = &*session;
        let bound = session.attested.as_ref();
        let delegated = session.delegated.as_ref();
        let sql = "INSERT INTO sessions (sid, agent_id, orch_id, task_id, scope, jti, iat, exp, created_at, \
                   correlation_id, policy_uid, pod_uid, attested, last_exp, kept_until, root, nodes, parent, ceiling, \
                   barred, holder_pod, status, open_root, status_set_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
                   $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $16, (SELECT status_set_at FROM sessions WHERE sid = $18))";
        let values = values![
            session.sid.as_str(),
            &session.agent_id,
            session.orch_id.as_str(),
            session.task_id.as_str(),
            to_json("session scope", &session.scope)?,
            session.jti.as_str(),
            session.iat.get(),
            session.exp.get(),
            session.created_at.get(),
            &session.correlation_id,
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
        ];
        self.link.send("insert_session", sql, values).await
    }

    async fn session(&mut self, sid: &SessionId) -> Result<Option<Session>> {
        if let Some(known) = self.ahead.as_ref().and_then(|ahead| ahead.session(sid)) {
            return Ok(Some(known));
        }
        let sql = select!(sessions, "WHERE sid = $1");
        self.link.first(READ, sql, values![sid.as_str()], from_row).await
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
        let sql = "UPDATE sessions SET jti = $1, iat = $2, exp = $3, last_exp = greatest(last_exp, $3), prev_jti = $4, \
                   prev_until = $5, prev_exp = $6, renew_key = $7, prev_over = $8, \
                   kept_until = greatest(kept_until, $11) WHERE sid = $9 AND jti = $10";
        let values = values![
            jti.as_str(),
            iat.get(),
            exp.get(),
            previous.jti.as_str(),
            previous.until.get(),
            previous.exp.get(),
            previous.key.as_deref(),
            overlap_until.unwrap_or(AT_ONCE).get(),
            session.sid.as_str(),
            session.jti.as_str(),
            kept_until(exp).get(),
        ];
        // Known to be so since the lock was taken: the condition still stands in the statement, and fails the batch.
        if self.forgets_session(&session.sid, &session.jti) {
            self.link.send_for_one("renew_session", sql, values).await?;
        } else if !self.changed("renew_session", sql, values).await? {
            return Ok(false);
        }
        if session.status.is_none() {
            self.give_status_index(&session.sid).await?;
        }
        self.view_change(session.renewed_change(jti, exp, previous, overlap_until));
        Ok(true)
    }

    async fn end_session(&mut self, session: &Session, reason: EndReason, effective_at: UnixMillis) -> Result<bool> {
        let ending = Ending::new(self, reason, effective_at);
        let sql = concat!(
            "UPDATE sessions SET ended_at = $3, end_reason = $1, open_root = CASE $1 WHEN 'superseded' THEN open_root END, \
             status_set_at = least(coalesce(status_set_at, $4), $4) WHERE sid = $2 AND ",
            not_ended!()
        );
        let values = values![
            reason.as_str(),
            session.sid.as_str(),
            ending.ended_at.get(),
            ending.set_at.get()
        ];
        self.forgets_session(&session.sid, &session.jti);
        if !self.changed("end_session", sql, values).await? {
            return Ok(false);
        }
        self.set_bits_below(session, ending.set_at).await?;
        self.view_change(session.ended_change(ending));
        Ok(true)
    }

    async fn live_sessions_by_policy(&mut self, policy_uid: &PolicyUid) -> Result<Vec<Session>> {
        self.sessions(standing!("policy_uid = $1"), policy_uid).await
    }

    async fn count_other_pods(&mut self, policy_uid: &PolicyUid, pod_uid: &PodUid, most: i64) -> Result<i64> {
        let sql = concat!(
            "SELECT COUNT(*) AS pods FROM (SELECT DISTINCT pod_uid FROM sessions WHERE policy_uid = $1 AND exp >= $2 AND ",
            not_ended!(),
            " AND pod_uid <> $4 LIMIT $5) AS others"
        );
        let (seconds, now) = (self.times.passed().second().get(), self.times.judged.get());
        let values = values![policy_uid.as_str(), seconds, now, pod_uid.as_str(), most];
        let count = self
            .link
            .first("count_pods", sql, values, |row| row.whole("pods"))
            .await?;
        Ok(count.unwrap_or_default())
    }

    async fn live_sessions_by_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>> {
        self.sessions(standing!("pod_uid = $1"), pod_uid).await
    }

    async fn unexpired_sessions_by_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>> {
        let sql = select!(sessions, "WHERE pod_uid = $1 AND last_exp >= $2");
        // By both clocks: a token that has expired by the wall clock alone may be valid again.
        let values = values![pod_uid.as_str(), self.times.passed().second().get()];
        self.link.all(READ, sql, values, from_row).await
    }

    async fn unended_sessions_by_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>> {
        let sql = select!(sessions, "WHERE pod_uid = $1 AND (ended_at IS NULL OR ended_at > $2)");
        let values = values![pod_uid.as_str(), self.now_millis().get()];
        self.link.all(READ, sql, values, from_row).await
    }

    async fn forget_scopes_of_pod(&mut self, pod_uid: &PodUid) -> Result<()> {
        self.forget_sessions();
        let sql = "UPDATE sessions SET scope = '[]' WHERE pod_uid = $1 AND ended_at <= $2 AND scope <> '[]'";
        let values = values![pod_uid.as_str(), self.times.passed().get()];
        self.link.send("forget_scopes", sql, values).await
    }

    async fn standing_delegations_to_pod(&mut self, pod_uid: &PodUid) -> Result<Vec<Session>> {
        self.sessions(standing!("holder_pod = $1"), pod_uid).await
    }

    async fn live_sessions_by_orch(&mut self, orch_id: &OrchId) -> Result<Vec<Session>> {
        let query = standing!("pod_uid IS NOT NULL AND root IS NULL AND orch_id = $1");
        self.sessions(query, orch_id).await
    }

    async fn session_of_agent(&mut self, agent_id: &str) -> Result<Option<Session>> {
        let Some(prefix) = id_prefix_of_agent(agent_id) else {
            return Ok(None);
        };
        // Not `root IS NULL`, by which the server might go through the index of all sessions: few ids have one prefix.
        let sql = select!(sessions, "WHERE sid >= $1 AND sid < $1 || 'g' AND agent_id = $2");
        let found = self.link.all(READ, sql, values![prefix, agent_id], from_row).await?;
        Ok(found.into_iter().find(|session| session.delegated.is_none()))
    }

    async fn bar_agent(&mut self, agent_id: &str) -> Result<()> {
        let Some(prefix) = id_prefix_of_agent(agent_id) else {
            return Ok(());
        };
        self.forget_sessions();
        let sql =
            "UPDATE sessions SET barred = true WHERE sid >= $1 AND sid < $1 || 'g' AND agent_id = $2 AND root IS NULL";
        self.link.send("bar_agent", sql, values![prefix, agent_id]).await
    }

    async fn standing_delegations_of(&mut self, session: &Session) -> Result<Vec<Session>> {
        // By the index of what is open below the root: one by parent would cost each delegation two or three pages.
        let sql = select!(
            sessions,
            "WHERE ",
            kept_below!("$1", "$4"),
            " AND parent = $5 AND last_exp >= $2 AND ",
            not_ended!()
        );
        let (root, _) = session.family()?;
        let passed = self.times.passed().second();
        let values = values![
            root.as_str(),
            passed.get(),
            self.times.judged.get(),
            kept_until(passed).get(),
            session.sid.as_str()
        ];
        self.link.all(READ, sql, values, from_row).await
    }

    async fn count_open_delegations(
        &mut self,
        root: &SessionId,
        below: Option<&SessionId>,
        most: usize,
    ) -> Result<usize> {
        let sql = concat!(
            "SELECT true FROM sessions WHERE ",
            kept_below!("$1", "$2"),
            " AND ended_at IS NULL AND last_exp >= $3 AND ($5::text IS NULL OR starts_with(nodes, $5)) LIMIT $4"
        );
        // Of what descends from it, the JSON begins so.
        let begins = below.map(|below| format!("[\"{below}\","));
        let now = self.times.judged.second();
        let values = values![
            root.as_str(),
            kept_until(now).get(),
            now.get(),
            i64::try_from(most).unwrap_or(i64::MAX),
            begins,
        ];
        let open = self.link.all("count_delegations", sql, values, |_| Ok(())).await?;
        Ok(open.len())
    }

    async fn standing_sessions_by_agent(&mut self, agent_id: &str) -> Result<Vec<Session>> {
        let mut found = self
            .sessions(standing!("root IS NOT NULL AND agent_id = $1"), agent_id)
            .await?;
        if let Some(prefix) = id_prefix_of_agent(agent_id) {
            let own = self.standing_by_id_prefix(prefix).await?;
            found.extend(own.into_iter().filter(|session| session.is_own_of(agent_id)));
        }
        Ok(found)
    }

    async fn standing_sessions_by_task(&mut self, task_id: &TaskId) -> Result<Vec<Session>> {
        let mut found = self
            .sessions(standing!("root IS NULL AND task_id = $1"), task_id)
            .await?;
        // Also below a root that has ended.
        let below = standing!("open_root IN (SELECT sid FROM sessions WHERE root IS NULL AND task_id = $1)");
        found.extend(self.sessions(below, task_id).await?);
        Ok(found)
    }

    async fn standing_session_by_jti(&mut self, jti: &Jti) -> Result<Option<Session>> {
        if jti.len() <= ID_PREFIX {
            return Ok(None);
        }
        let now = self.now_millis();
        Ok(self
            .standing_by_id_prefix(id_prefix(jti))
            .await?
            .into_iter()
            .find(|session| session.has_token(jti, now)))
    }

    async fn live_attested_sessions(&mut self) -> Result<Vec<Session>> {
        self.sessions(live!("pod_uid > $1"), "").await
    }

    async fn count_live_sessions(&mut self) -> Result<i64> {
        // The first condition is that of an index.
        let sql = "SELECT count(*) AS found FROM sessions WHERE kept_until >= $1 AND ended_at IS NULL AND root IS NULL \
                   AND exp >= $2";
        let now = self.times.judged.second();
        let values = values![kept_until(now).get(), now.get()];
        let count = self
            .link
            .first("count_sessions", sql, values, |row| row.whole("found"))
            .await?;
        Ok(count.unwrap_or_default())
    }
}
