//! `GET /v1/audit/events`.

use agentwrit_protocol::audit::AuditEvent;
use agentwrit_store::EventPage;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::http::{ApiError, ApiRequest, AppState, authorize, query, reply_text};
use crate::service::audit_query::{self, QueryError};
use crate::service::authorize::Requirement;

/// Shows one page of the audit trail.
///
/// Events come in the order of their insertion. Filters are joined by AND. An empty value filters nothing, and a value
/// that no event has gives an empty page.
#[cfg_attr(feature = "openapi", utoipa::path(
    get, path = "/v1/audit/events", tag = "Audit", operation_id = "auditEvents",
    security(("bearer" = ["admin:audit:*"])),
    params(crate::http::openapi::AuditQuery),
    responses((
        status = 200, body = agentwrit_protocol::wire::AuditEventsResponse,
        description = "The page, and how many matches there are in all.",
    )),
    extensions(("x-refusals" = json!([
        "invalid_request: since \"yesterday\" must be an RFC 3339 time such as 2026-01-02T03:04:05Z or \
         2026-01-02T03:04:05%2B01:00, with T and Z in upper case",
        "invalid_request: cursor \"5\" must be the id of an event such as evt-000123, or evt-000000 to begin with",
        "invalid_request: cursor and offset exclude each other: leave offset out",
        "invalid_request: limit \"0\" must be a whole number of at least 1",
    ]))),
))]
pub(in crate::http) async fn events(State(broker): State<AppState>, call: ApiRequest) -> Result<Response, ApiError> {
    authorize(&broker, &call, Requirement::admin("admin:audit:*")).await?;
    let filter = audit_query::filter(&query::parameters(call.query(), query::QueryEndpoint::AuditEvents))?;
    let asked = (filter.cursor, filter.offset, filter.limit);
    let page = broker.store.events(filter).await?;
    Ok(reply_text(StatusCode::OK, body(page, asked)))
}

/// The members of [`AuditEventsResponse`](agentwrit_protocol::wire::AuditEventsResponse), around events that are
/// served as they are stored.
fn body(page: EventPage, (cursor, offset, limit): (Option<i64>, i64, i64)) -> String {
    let next = cursor.map_or_else(String::new, |cursor| {
        let next = AuditEvent::id_for(page.last.unwrap_or(cursor));
        format!(r#","next_cursor":"{next}""#)
    });
    let EventPage { events, total, .. } = page;
    format!(r#"{{"events":{events},"total":{total},"offset":{offset},"limit":{limit}{next}}}"#) + "\n"
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        Self::invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::go_json;
    use agentwrit_protocol::wire::AuditEventsResponse;

    use super::*;

    #[test]
    fn the_body_is_what_the_wire_type_writes() {
        let mut event = AuditEvent {
            detail: "<&>\u{2028}\"".to_owned(),
            ..AuditEvent::default()
        };
        event.seal(1, "");
        for (events, cursor, next) in [
            (vec![], None, None),
            (vec![event.clone()], None, None),
            (vec![event.clone(), event], Some(0), Some("evt-000002")),
            (vec![], Some(7), Some("evt-000007")),
        ] {
            let texts: Vec<String> = events.iter().map(|event| go_json::to_string(event).unwrap()).collect();
            let page = EventPage {
                events: format!("[{}]", texts.join(",")),
                last: i64::try_from(events.len()).ok().filter(|last| *last > 0),
                total: 9,
            };
            let wanted = AuditEventsResponse {
                events,
                total: 9,
                offset: 3,
                limit: 5,
                next_cursor: next.map(str::to_owned),
            };
            assert_eq!(body(page, (cursor, 3, 5)), go_json::to_string(&wanted).unwrap() + "\n");
        }
    }
}
