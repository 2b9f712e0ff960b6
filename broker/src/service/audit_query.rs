//! The audit query, `GET /v1/audit/events`: its parameters, and the filter that they ask for.

use agentwrit_protocol::audit::{AuditEvent, agent_as_audited};
use agentwrit_protocol::excerpt::excerpt;
use agentwrit_protocol::timestamp::parse_rfc3339;
use agentwrit_store::{EventFilter, FilterColumn};

const DEFAULT_LIMIT: i64 = 100;
const LONGEST_PAGE: i64 = 1000;

/// Why a query is not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A moment that is none.
    #[error(
        "{name} {value:?} must be an RFC 3339 time such as 2026-01-02T03:04:05Z or 2026-01-02T03:04:05%2B01:00, with T and Z in upper case"
    )]
    Moment { name: &'static str, value: String },
    /// A number out of range.
    #[error("{name} {value:?} must be a whole number of at least {least}")]
    Number {
        name: &'static str,
        value: String,
        /// The smallest that makes sense.
        least: i64,
    },
    /// A cursor that no page ended with.
    #[error("cursor {value:?} must be the id of an event such as evt-000123, or evt-000000 to begin with")]
    Cursor { value: String },
    /// Two ways to say where the page starts.
    #[error("cursor and offset exclude each other: leave offset out")]
    CursorAndOffset,
}

/// Builds the filter from query parameters; empty ones filter nothing, of repeated ones the first counts.
///
/// # Errors
/// Names the parameter that makes no sense.
pub fn filter(parameters: &[(&str, String)]) -> Result<EventFilter, QueryError> {
    let value = |name: &str| {
        let found = parameters.iter().find(|(given, _)| *given == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    let moment = |name: &'static str| {
        let parse = |text: &str| {
            parse_rfc3339(text).ok_or_else(|| QueryError::Moment {
                name,
                value: excerpt(text),
            })
        };
        value(name).map(parse).transpose()
    };
    let number = |name: &'static str, default: i64, least: i64| match value(name) {
        None => Ok(default),
        Some(text) => text
            .parse::<i64>()
            .ok()
            .filter(|number| *number >= least)
            .ok_or_else(|| QueryError::Number {
                name,
                value: excerpt(text),
                least,
            }),
    };
    let cursor = value("cursor")
        .map(|text| AuditEvent::sequence_of(text).ok_or_else(|| QueryError::Cursor { value: excerpt(text) }));
    let cursor = cursor.transpose()?;
    if cursor.is_some() && value("offset").is_some() {
        return Err(QueryError::CursorAndOffset);
    }
    let exact = FilterColumn::ALL
        .into_iter()
        .filter_map(|column| value(column.as_str()).map(|value| (column, as_audited(column, value))))
        .collect();
    Ok(EventFilter {
        exact,
        since: moment("since")?,
        until: moment("until")?,
        cursor,
        offset: number("offset", 0, 0)?,
        limit: number("limit", DEFAULT_LIMIT, 1)?.min(LONGEST_PAGE),
    })
}

/// What the trail holds of a value: of a long one the beginning.
fn as_audited(column: FilterColumn, value: &str) -> String {
    if column == FilterColumn::AgentId {
        agent_as_audited(value).into_owned()
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query;

    fn filtered(query: &str) -> Result<EventFilter, QueryError> {
        filter(&query::parameters(query, query::QueryEndpoint::AuditEvents))
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        for (query, name) in [
            ("since=yesterday", "since"),
            ("until=2026-01-02T03:04:05+01:00", "until"),
            ("limit=0", "limit"),
            ("limit=-5", "limit"),
            ("limit=x", "limit"),
            ("offset=-1", "offset"),
            ("offset=1.5", "offset"),
            ("cursor=5", "cursor"),
            ("cursor=evt-00000x", "cursor"),
            ("cursor=evt-000001&offset=0", "cursor and offset"),
        ] {
            let error = filtered(query).unwrap_err().to_string();
            assert!(error.starts_with(name), "{query}: {error}");
        }
    }

    #[test]
    fn empty_parameters_filter_nothing_and_the_page_is_bounded() {
        let page = filtered("agent_id=&limit=5000&offset=&pod_uid=p&since=2026-01-02T03:04:05%2B01:00").unwrap();
        assert_eq!((page.limit, page.offset), (1000, 0));
        assert_eq!(page.exact, [(FilterColumn::PodUid, "p".to_owned())]);
        assert!(page.since.is_some());
        assert_eq!(filtered("").unwrap().limit, 100);
        assert_eq!(filtered("cursor=evt-000007&offset=").unwrap().cursor, Some(7));
    }
}
