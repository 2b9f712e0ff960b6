//! Watches how the wall clock and the high-water mark disagree.

use crate::broker::Broker;

use agentwrit_protocol::wall_clock::{disagreement, is_wrong};

/// Observes the clocks, so that the mark follows them, and logs when they begin and cease to be wrong; `before` is the last
/// answer.
pub(crate) fn watch(broker: &Broker, before: Wrong) -> Wrong {
    let skew = broker.clock_skew();
    match (before.skewed, &skew) {
        (false, Some(skew)) => tracing::error!(target: "BROKER", component = "Clock", "{skew}"),
        (true, None) => tracing::info!(target: "BROKER", component = "Clock", "this machine's clock is right again"),
        _ => {}
    }
    Wrong {
        disagrees: disagrees(broker, before.disagrees),
        skewed: skew.is_some(),
    }
}

/// What is wrong with the clocks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wrong {
    /// Wall clock and mark disagree.
    disagrees: bool,
    /// The machine's clock is far from the database's.
    skewed: bool,
}

fn disagrees(broker: &Broker, before: bool) -> bool {
    let times = broker.judging.observe();
    let min_iat = broker.tokens.view.min_iat();
    let behind = is_wrong(times, min_iat);
    match (before, behind) {
        (false, true) => tracing::error!(target: "BROKER", component = "Clock", "{}", disagreement(times, min_iat)),
        (true, false) => tracing::info!(target: "BROKER", component = "Clock", "the clock is right again"),
        _ => {}
    }
    behind
}
