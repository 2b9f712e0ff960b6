//! The figures that a run is judged by.

use serde::Serialize;

use crate::arrivals::Second;
use crate::simulation::Run;

/// Goal: the busiest second after an outage has at most so many times the steady rate.
pub const GOAL: f64 = 2.0;
/// Renewals are few where tokens live long: they are counted over so many seconds.
const RENEWALS_OVER: u64 = 10;

/// Rates are requests a second.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// The steady rate of all requests.
    pub steady: f64,
    /// Its busiest second.
    pub steady_peak: f64,
    /// The busiest second after the broker is back.
    pub peak: f64,
    /// When that is: seconds after it is back.
    pub peak_after: u64,
    /// The peak as a multiple of the steady rate.
    pub ratio: f64,
    /// The same of the seconds after all have a token again: a second wave would be seen here.
    pub later_ratio: f64,
    /// The steady rate of renewals.
    pub renewals: f64,
    /// Most renewals a second after the broker is back, over 10 s, as a multiple of that.
    pub renewals_ratio: f64,
    /// Most tries a second while the broker is away.
    pub unanswered_peak: f64,
    /// Most pods without a token at one time.
    pub without_token: u32,
    /// Seconds from the broker's return until every pod has a token.
    pub all_after: u64,
}

impl Figures {
    pub(crate) fn of(run: &Run) -> Self {
        let (scenario, arrivals) = (&run.scenario, &run.arrivals);
        let bin = scenario.bin();
        let back = scenario.away.end;
        let after = arrivals.between(back, scenario.ends);
        let steady_seconds = arrivals.between(scenario.steady.start, scenario.steady.end);
        let steady = highest(steady_seconds, length(steady_seconds), Second::arrived).0;
        let (peak, peak_after) = highest(after, bin, Second::arrived);
        let all_after = after
            .iter()
            .rposition(|second| second.without_token > 0)
            .map_or(0, |last| u64::try_from(last).unwrap_or(u64::MAX) + 1);
        let later = arrivals.between(back + all_after + 1, scenario.ends);
        let renewals = highest(steady_seconds, length(steady_seconds), |second| second.renew).0;
        let renewals_peak = highest(after, RENEWALS_OVER.max(bin), |second| second.renew).0;
        let away = arrivals.between(scenario.away.start, back);
        Self {
            steady,
            steady_peak: highest(steady_seconds, bin, Second::arrived).0,
            peak,
            peak_after,
            ratio: peak / steady,
            later_ratio: highest(later, bin, Second::arrived).0 / steady,
            renewals,
            renewals_ratio: renewals_peak / renewals,
            unanswered_peak: highest(away, bin, |second| second.unanswered).0,
            without_token: after
                .iter()
                .chain(away)
                .map(|second| second.without_token)
                .max()
                .unwrap_or_default(),
            all_after,
        }
    }
}

fn length(seconds: &[Second]) -> u64 {
    u64::try_from(seconds.len()).unwrap_or(u64::MAX)
}

/// The highest rate of `bin` seconds in a row, and the second in which they begin.
fn highest(seconds: &[Second], bin: u64, what: impl Fn(&Second) -> u32) -> (f64, u64) {
    let width = usize::try_from(bin).unwrap_or(usize::MAX).max(1);
    let span = f64::from(u32::try_from(bin.max(1)).unwrap_or(u32::MAX));
    let mut found = (0.0, 0);
    for (number, window) in (0_u64..).zip(seconds.chunks_exact(width)) {
        let rate = f64::from(window.iter().map(&what).sum::<u32>()) / span;
        if rate > found.0 {
            found = (rate, number * bin.max(1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_rate_is_that_of_whole_bins() {
        let seconds = [1, 5, 9, 1, 4].map(|renew| Second {
            renew,
            ..Second::default()
        });
        let highest = |bin| highest(&seconds, bin, |second| second.renew);
        assert_eq!(highest(1), (9.0, 2));
        assert_eq!(highest(2), (5.0, 2));
        assert_eq!(highest(5), (4.0, 0));
        assert_eq!(highest(6), (0.0, 0), "no whole bin, no rate");
    }
}
