//! The filter of the audit query.

use agentwrit_broker::http::query::{QueryEndpoint, parameters};
use agentwrit_broker::parsers::filter;
use agentwrit_protocol::audit::AuditEvent;
use agentwrit_protocol::timestamp::parse_rfc3339;
use agentwrit_store::EventFilter;
use agentwrit_store::FilterColumn;
use http::Uri;
use serde_json::{Value, json};

use crate::answer::Request;
use crate::world;

/// Any text as a query string: the filter is sound, the endpoint says the same, and the page holds what a look at
/// each event finds.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let given = parameters(&text, QueryEndpoint::AuditEvents);
    let filter = filter(&given);
    if let Ok(filter) = &filter {
        assert!((1..=1000).contains(&filter.limit) && filter.offset >= 0);
        assert!(filter.exact.iter().all(|(_, value)| !value.is_empty()));
    }
    let target = format!("/v1/audit/events?{text}");
    // What follows `#` is no part of a query.
    if text.contains('#') || target.parse::<Uri>().is_err() {
        return;
    }
    world::with(|world| {
        world.trail();
        let bearer = world.admin();
        let request = Request::new("GET", &target).header("authorization", &format!("Bearer {bearer}"));
        let answer = world.send(&request);
        assert_eq!(answer.status == 200, filter.is_ok(), "{text:?}: {answer:?}");
        assert!(matches!(answer.status, 200 | 400), "{answer:?}");
        if let Ok(filter) = filter {
            let matches: Vec<&Value> = world.trail().iter().filter(|event| chosen(event, &filter)).collect();
            let page = answer.json();
            assert_eq!(page["total"], matches.len(), "{text:?}");
            let after = matches
                .iter()
                .skip_while(|event| number(event) <= filter.cursor.unwrap_or_default());
            let skipped = usize::try_from(filter.offset).unwrap();
            let limit = usize::try_from(filter.limit).unwrap();
            let wanted: Vec<&&Value> = after.skip(skipped).take(limit).collect();
            assert_eq!(page["events"], json!(wanted), "{text:?}");
        }
    });
}

fn number(event: &Value) -> i64 {
    AuditEvent::sequence_of(event["id"].as_str().unwrap()).unwrap()
}

/// Whether a filter chooses an event; paging aside.
fn chosen(event: &Value, filter: &EventFilter) -> bool {
    let at = parse_rfc3339(event["timestamp"].as_str().unwrap()).unwrap();
    let exact = |(column, value): &(FilterColumn, String)| event[column.as_str()] == value.as_str();
    filter.exact.iter().all(exact)
        && filter.since.is_none_or(|since| at >= since)
        && filter.until.is_none_or(|until| at <= until)
}
