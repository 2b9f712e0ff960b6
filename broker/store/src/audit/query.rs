//! Reading the trail.

use agentwrit_protocol::UnixNanos;
use async_trait::async_trait;

use crate::Result;

/// What an audit query asks for; empty strings filter nothing.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// (column, value) pairs that must match exactly.
    pub exact: Vec<(FilterColumn, String)>,
    /// Earliest moment, inclusive.
    pub since: Option<UnixNanos>,
    /// Latest moment, inclusive.
    pub until: Option<UnixNanos>,
    /// Only events after the one with this number; nothing is skipped then.
    pub cursor: Option<i64>,
    /// Rows to skip.
    pub offset: i64,
    /// Rows to return at most.
    pub limit: i64,
}

impl EventFilter {
    /// Whether every event matches.
    pub fn is_of_all(&self) -> bool {
        self.exact.is_empty() && self.since.is_none() && self.until.is_none()
    }

    /// The number of the event before the page, when every event matches and those up to `gone` are not kept: numbers have
    /// no gaps.
    pub fn before_page(&self, gone: i64) -> i64 {
        match self.cursor {
            Some(cursor) => cursor.max(gone),
            None => gone.saturating_add(self.offset),
        }
    }
}

/// The closed set of members that a query may filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterColumn {
    /// `agent_id`.
    AgentId,
    /// `task_id`.
    TaskId,
    /// `event_type`.
    EventType,
    /// `outcome`.
    Outcome,
    /// `actor`.
    Actor,
    /// `source`.
    Source,
    /// `correlation_id`.
    CorrelationId,
    /// `policy_uid`.
    PolicyUid,
    /// `pod_uid`.
    PodUid,
    /// `error_kind`.
    ErrorKind,
}

impl FilterColumn {
    /// Every column.
    pub const ALL: [Self; 10] = [
        Self::AgentId,
        Self::TaskId,
        Self::EventType,
        Self::Outcome,
        Self::Actor,
        Self::Source,
        Self::CorrelationId,
        Self::PolicyUid,
        Self::PodUid,
        Self::ErrorKind,
    ];

    /// Name of the query parameter and of the column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AgentId => "agent_id",
            Self::TaskId => "task_id",
            Self::EventType => "event_type",
            Self::Outcome => "outcome",
            Self::Actor => "actor",
            Self::Source => "source",
            Self::CorrelationId => "correlation_id",
            Self::PolicyUid => "policy_uid",
            Self::PodUid => "pod_uid",
            Self::ErrorKind => "error_kind",
        }
    }
}

/// One page of the trail.
#[derive(Debug, Clone, Default)]
pub struct EventPage {
    /// A JSON array of events in order of insertion, each exactly as it was sealed.
    pub events: String,
    /// Number of the last of them.
    pub last: Option<i64>,
    /// Matches before paging.
    pub total: i64,
}

impl EventPage {
    /// One without events, whose array is open.
    pub fn begin() -> Self {
        Self {
            events: String::from("["),
            ..Self::default()
        }
    }

    /// Adds the text of an event.
    pub fn push(&mut self, number: i64, json: &str) {
        if self.last.is_some() {
            self.events.push(',');
        }
        self.events.push_str(json);
        self.last = Some(number);
    }

    /// The page with its array closed.
    #[must_use]
    pub fn end(mut self) -> Self {
        self.events.push(']');
        self
    }
}

/// Queries of the trail.
#[async_trait]
pub trait AuditQuery {
    /// One page of committed events, in the order of the chain. Events of this transaction are not among them.
    async fn events(&mut self, filter: &EventFilter) -> Result<EventPage>;
}
