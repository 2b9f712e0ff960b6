//! Wall clock and high-water mark: what is said when they disagree.

use agentwrit_protocol::Times;

use crate::broker::Broker;
use crate::timestamp::rfc3339_seconds;

/// What is wrong with a wall clock that is far behind the mark.
pub(crate) fn disagreement(times: Times) -> String {
    let second = |millis: i64| rfc3339_seconds(millis.div_euclid(1000));
    format!(
        "the wall clock says {}, and the store has seen {}: nothing is issued until the clock is right; if it is right now, \
         start with --accept-clock",
        second(times.wall),
        second(times.mark)
    )
}

/// Looks at the clocks, so that the mark follows them, and tells when they come to disagree and when that is over.
/// Returns whether they disagree; `told` is the answer of before.
pub(crate) fn watch(broker: &Broker, told: bool) -> bool {
    let times = broker.judging.observe();
    let behind = times.is_behind();
    match (told, behind) {
        (false, true) => tracing::error!(target: "BROKER", component = "Clock", "{}", disagreement(times)),
        (true, false) => tracing::info!(target: "BROKER", component = "Clock", "the clock is right again"),
        _ => {}
    }
    behind
}
