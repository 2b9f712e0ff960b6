//! Watches how the wall clock and the high-water mark disagree.

use crate::broker::Broker;

use agentwrit_protocol::wall_clock::{disagreement, is_wrong};

/// Looks at the clocks, so that the mark follows them, and tells when they come to disagree and when that is over.
/// Returns whether they disagree; `told` is the answer of before.
pub(crate) fn watch(broker: &Broker, told: bool) -> bool {
    let times = broker.judging.observe();
    let min_iat = broker.tokens.view.min_iat();
    let behind = is_wrong(times, min_iat);
    match (told, behind) {
        (false, true) => tracing::error!(target: "BROKER", component = "Clock", "{}", disagreement(times, min_iat)),
        (true, false) => tracing::info!(target: "BROKER", component = "Clock", "the clock is right again"),
        _ => {}
    }
    behind
}
