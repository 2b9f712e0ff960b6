//! The audit trail.

use agentwrit_protocol::ErrorCode::InvalidRequest;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::wire;
use agentwrit_store::FilterColumn;
use serde_json::json;

use super::super::endpoint::Endpoint;
use super::super::grammar::{Piece, any_moment, any_text, known, matching, number, or_empty};
use super::super::schemas::Schemas;

pub const TAG: &str = "Audit";

pub fn endpoints(schemas: &mut Schemas) -> Vec<Endpoint> {
    schemas.shape::<wire::AuditEventsResponse>(|shape| {
        shape
            .member("total", number(0, None, 1))
            .member("offset", number(0, None, 0))
            .member("limit", number(1, Some(1000), 100))
            .written()
    });
    vec![events()]
}

fn values(column: FilterColumn) -> (&'static str, Piece) {
    match column {
        FilterColumn::EventType => (
            "Only events of this type.",
            known(EventType::ALL.iter().map(|kind| kind.as_str())),
        ),
        FilterColumn::Outcome => ("Only events with this outcome.", known(["success", "denied"])),
        FilterColumn::AgentId
        | FilterColumn::TaskId
        | FilterColumn::Actor
        | FilterColumn::Source
        | FilterColumn::CorrelationId
        | FilterColumn::PolicyUid
        | FilterColumn::PodUid
        | FilterColumn::ErrorKind => ("Only events with exactly this value.", any_text()),
    }
}

fn events() -> Endpoint {
    let mut endpoint = Endpoint::get("/v1/audit/events", TAG, "auditEvents", "One page of the trail")
        .says(
            "In order of insertion. Filters are joined by AND; an empty value filters nothing, a value that no event has \
             gives an empty page.",
        )
        .bearer_with("admin:audit:*");
    for column in FilterColumn::ALL {
        let (text, schema) = values(column);
        endpoint = endpoint.in_query(column.as_str(), false, text, schema);
    }
    endpoint
        .in_query(
            "since",
            false,
            "Not before this RFC 3339 moment; write `+` as `%2B`.",
            or_empty(any_moment("2026-11-21T00:00:00Z")),
        )
        .in_query(
            "until",
            false,
            "Not after this RFC 3339 moment.",
            or_empty(any_moment("2026-11-22T00:00:00+01:00")),
        )
        .in_query(
            "limit",
            false,
            "Most events on the page; 100 unless given, and never over 1000.",
            or_empty(number(1, None, 100)),
        )
        .in_query(
            "offset",
            false,
            "Matches to skip; not with `cursor`.",
            or_empty(number(0, None, 0)),
        )
        .in_query(
            "cursor",
            false,
            "Only events after the one with this id: `next_cursor` of the page before, or `evt-000000` to begin with. \
             Pages by cursor neither repeat nor miss events of a trail that grows.",
            or_empty(matching("^evt-([0-9]{6}|[1-9][0-9]{6,17})$", "evt-000123")),
        )
        .answers(
            200,
            "The page, and how many matches there are in all.",
            "AuditEventsResponse",
            json!({
                "events": [{
                    "id": "evt-000001",
                    "timestamp": "2026-11-21T09:30:00.123456789Z",
                    "event_type": "admin_auth",
                    "detail": "admin logged in",
                    "outcome": "success",
                    "hash": "4f2a9c071be6d853".repeat(4),
                    "prev_hash": "0".repeat(64),
                }],
                "total": 1,
                "offset": 0,
                "limit": 100,
            }),
        )
        .refuses(
            InvalidRequest,
            "since \"yesterday\" must be an RFC 3339 time such as 2026-01-02T03:04:05Z or 2026-01-02T03:04:05%2B01:00, with T and Z in upper case",
        )
        .refuses(
            InvalidRequest,
            "cursor \"5\" must be the id of an event such as evt-000123, or evt-000000 to begin with",
        )
        .refuses(InvalidRequest, "cursor and offset exclude each other: leave offset out")
        .refuses(InvalidRequest, "limit \"0\" must be a whole number of at least 1")
}
