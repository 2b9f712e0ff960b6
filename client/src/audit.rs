//! Filters of the audit query (`docs/wire-contract.md` §15.5 and the extra fields of `docs/kubernetes-api.md` §4).

use agentwrit_protocol::wire::AuditEventsResponse;
use agentwrit_protocol::{PodUid, PolicyUid, Sensitive, TaskId};
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Error;
use crate::token::escape;
use crate::transport::{Answer, BrokerClient, Call};

/// Filters, combined with "and"; `None` means no filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// SPIFFE id, exact.
    pub agent_id: Option<String>,
    /// Task, exact.
    pub task_id: Option<TaskId>,
    /// Event type, exact.
    pub event_type: Option<String>,
    /// `success` or `denied`.
    pub outcome: Option<String>,
    /// RFC 3339, inclusive.
    pub since: Option<String>,
    /// RFC 3339, inclusive.
    pub until: Option<String>,
    /// Made at launch, carried by every later event of that session.
    pub correlation_id: Option<String>,
    /// The precise kind of a refusal, exact.
    pub error_kind: Option<String>,
    /// Who did it, exact.
    pub actor: Option<String>,
    /// Where it came from, exact.
    pub source: Option<String>,
    /// metadata.uid of the AgentApp or LaunchToken.
    pub policy_uid: Option<PolicyUid>,
    /// metadata.uid of the pod.
    pub pod_uid: Option<PodUid>,
    /// Most events to answer, 1 to 1000.
    pub limit: Option<i64>,
    /// Events to skip.
    pub offset: Option<i64>,
    /// Where the page before ended, as its `next_cursor` says.
    pub cursor: Option<String>,
}

/// A page whose events are as the broker wrote them, byte for byte: to hash or to keep them.
#[derive(Debug, Deserialize)]
pub struct AuditPage {
    /// In order of insertion; the JSON text of each.
    pub events: Vec<Box<RawValue>>,
    /// Matches before paging.
    pub total: i64,
    /// Where the next page starts, when a cursor was asked for.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

impl AuditQuery {
    /// `?` and the escaped filters, or nothing.
    pub(crate) fn to_query(&self) -> String {
        let texts = [
            ("agent_id", self.agent_id.as_deref()),
            ("task_id", self.task_id.as_deref()),
            ("event_type", self.event_type.as_deref()),
            ("outcome", self.outcome.as_deref()),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
            ("correlation_id", self.correlation_id.as_deref()),
            ("error_kind", self.error_kind.as_deref()),
            ("actor", self.actor.as_deref()),
            ("source", self.source.as_deref()),
            ("policy_uid", self.policy_uid.as_deref()),
            ("pod_uid", self.pod_uid.as_deref()),
            ("cursor", self.cursor.as_deref()),
        ];
        let numbers = [("limit", self.limit), ("offset", self.offset)];
        let texts = texts
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| (key, escape(value))));
        let numbers = numbers
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| (key, value.to_string())));
        let pairs: Vec<String> = texts
            .chain(numbers)
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if pairs.is_empty() {
            return String::new();
        }
        format!("?{}", pairs.join("&"))
    }
}

impl BrokerClient {
    /// `GET /v1/audit/events`; needs `admin:audit:*`.
    pub async fn audit_events(&self, token: &Sensitive, query: &AuditQuery) -> Result<AuditEventsResponse, Error> {
        self.audit(token, query).await?.read()
    }

    /// The same, with the events' own text.
    pub async fn audit_page(&self, token: &Sensitive, query: &AuditQuery) -> Result<AuditPage, Error> {
        self.audit(token, query).await?.read()
    }

    async fn audit(&self, token: &Sensitive, query: &AuditQuery) -> Result<Answer, Error> {
        let path = format!("/v1/audit/events{}", query.to_query());
        self.send(Call::new(Method::GET, path).bearer(token)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_escaped_and_absent_ones_left_out() {
        let query = AuditQuery {
            agent_id: Some("spiffe://d/agent/a b".into()),
            since: Some("2026-11-21T07:00:00+01:00".into()),
            limit: Some(5),
            ..AuditQuery::default()
        };
        assert_eq!(
            query.to_query(),
            "?agent_id=spiffe%3A%2F%2Fd%2Fagent%2Fa%20b&since=2026-11-21T07%3A00%3A00%2B01%3A00&limit=5"
        );
        assert_eq!(AuditQuery::default().to_query(), "");
    }
}
