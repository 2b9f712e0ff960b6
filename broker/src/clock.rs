//! Wall clock and high-water mark: what is said when they disagree.

use agentwrit_protocol::Times;

use crate::broker::Broker;
use crate::timestamp::rfc3339_seconds;

/// Whether the wall clock is so far behind what the store has seen that nothing can be issued by it. Tokens that are
/// dated before the second `min_iat` are refused, so it must have come.
pub(crate) fn is_wrong(times: Times, min_iat: i64) -> bool {
    times.is_behind() || times.wall.div_euclid(1000) < min_iat
}

/// What is wrong with a wall clock that is far behind what the store has seen.
pub(crate) fn disagreement(times: Times, min_iat: i64) -> String {
    format!(
        "{}: nothing is issued until the clock is right; if it is right now, start with --accept-clock",
        both(times, min_iat)
    )
}

/// Both times.
pub(crate) fn both(times: Times, min_iat: i64) -> String {
    let second = |millis: i64| rfc3339_seconds(millis.div_euclid(1000));
    format!(
        "the wall clock says {}, and the store has seen {}",
        second(times.wall),
        second(times.mark.max(min_iat.saturating_mul(1000)))
    )
}

/// Looks at the clocks, so that the mark follows them, and tells when they come to disagree and when that is over.
/// Returns whether they disagree; `told` is the answer of before.
pub(crate) fn watch(broker: &Broker, told: bool) -> bool {
    let times = broker.judging.observe();
    let min_iat = broker.view.min_iat();
    let behind = is_wrong(times, min_iat);
    match (told, behind) {
        (false, true) => tracing::error!(target: "BROKER", component = "Clock", "{}", disagreement(times, min_iat)),
        (true, false) => tracing::info!(target: "BROKER", component = "Clock", "the clock is right again"),
        _ => {}
    }
    behind
}
