//! The filter of the audit query.

use agentwrit_broker::http::query::{Reader, parameters};
use agentwrit_broker::service::audit::filter;
use http::Uri;

use crate::answer::Request;
use crate::world;

/// Any text as a query string: the filter is sound, and the endpoint says the same.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let given = parameters(&text, Reader::AuditEvents);
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
        let bearer = world.admin();
        let request = Request::new("GET", &target).header("authorization", &format!("Bearer {bearer}"));
        let answer = world.send(&request);
        assert_eq!(answer.status == 200, filter.is_ok(), "{text:?}: {answer:?}");
        assert!(matches!(answer.status, 200 | 400), "{answer:?}");
    });
}
