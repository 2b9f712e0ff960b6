//! How the pods came back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One pod's way to a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// When it was first asked for.
    pub(super) asked: Instant,
    /// When it was there.
    pub(super) done: Instant,
}

/// All of them, from the moment when the broker listened.
#[derive(Debug)]
pub(super) struct Report {
    /// In the order in which they were asked for.
    asked: Vec<Duration>,
    /// In the order in which they were there.
    done: Vec<Duration>,
    /// The shortest first.
    took: Vec<Duration>,
    /// What went wrong on the way, and how often.
    failures: Vec<(String, u64)>,
}

impl Report {
    pub(super) fn new(
        begun: Instant,
        asked: &[Instant],
        arrivals: &[Arrival],
        failures: &BTreeMap<String, u64>,
    ) -> Self {
        let sorted = |mut all: Vec<Duration>| {
            all.sort();
            all
        };
        let since = |moment: &Instant| moment.saturating_duration_since(begun);
        let took = |arrival: &Arrival| arrival.done.saturating_duration_since(arrival.asked);
        Self {
            asked: sorted(asked.iter().map(since).collect()),
            done: sorted(arrivals.iter().map(|arrival| since(&arrival.done)).collect()),
            took: sorted(arrivals.iter().map(took).collect()),
            failures: failures.iter().map(|(kind, count)| (kind.clone(), *count)).collect(),
        }
    }

    /// For people; times are told as they were, of pods whose time went `pace` times faster.
    pub(super) fn lines(&self, pace: u32) -> Vec<String> {
        // A twelfth of what is promised, at most as many lines.
        let span = Duration::from_secs(5) / pace;
        let mut lines = vec![format!(
            "{} of {} pods, whose time goes {pace} times as fast; from the moment when the broker listened:",
            self.done.len(),
            self.asked.len()
        )];
        let end = self.done.last().copied().unwrap_or_default();
        let mut from = Duration::ZERO;
        while from <= end {
            let to = from + span;
            let within = |all: &[Duration]| all.iter().filter(|at| **at >= from && **at < to).count();
            lines.push(format!(
                "{:5.1} s to {:5.1} s: {:5} ask, {:5} have tokens again",
                from.as_secs_f64(),
                to.as_secs_f64(),
                within(&self.asked),
                within(&self.done)
            ));
            from = to;
        }
        let ms = |thousandth| self.percentile(thousandth).as_secs_f64() * 1000.0;
        lines.push(format!(
            "peak: {} ask and {} get their tokens within one second; a token takes {:.0} ms (half), {:.0} ms (99 of \
             100), {:.0} ms (all); {} failures on the way; the last has one after {:.1} s",
            most_within_a_second(&self.asked),
            most_within_a_second(&self.done),
            ms(500),
            ms(990),
            ms(1000),
            self.failures.iter().map(|(_, count)| count).sum::<u64>(),
            end.as_secs_f64()
        ));
        lines.extend(self.failures.iter().map(|(kind, count)| format!("{count:5} x {kind}")));
        lines
    }

    fn percentile(&self, thousandth: usize) -> Duration {
        let rank = (self.took.len() * thousandth).div_ceil(1000).saturating_sub(1);
        self.took.get(rank).copied().unwrap_or_default()
    }
}

/// The most of these moments, in order, that lie within one second of each other.
fn most_within_a_second(moments: &[Duration]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, moment) in moments.iter().enumerate() {
        while moments
            .get(first)
            .is_some_and(|from| moment.saturating_sub(*from) >= Duration::from_secs(1))
        {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

#[cfg(test)]
mod tests {
    use agentwrit_testkit::load::moment;

    use super::*;

    #[test]
    fn the_peak_is_the_fullest_second() {
        let at = |millis: &[u64]| millis.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        assert_eq!(most_within_a_second(&[]), 0);
        assert_eq!(most_within_a_second(&at(&[0, 999, 1000, 1500, 1998, 5000])), 4);
    }

    #[test]
    fn every_pod_is_in_one_line_and_in_the_figures() {
        let begun = moment::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let arrivals: Vec<Arrival> = [(0, 100), (700, 900), (1200, 4900), (5100, 5200)]
            .map(|(asked, done)| Arrival {
                asked: at(asked),
                done: at(done),
            })
            .into();
        let failures = BTreeMap::from([("launch 503 unavailable".to_owned(), 3)]);
        let lines = Report::new(
            begun,
            &arrivals.iter().map(|arrival| arrival.asked).collect::<Vec<_>>(),
            &arrivals,
            &failures,
        )
        .lines(1);
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[1].ends_with("    3 ask,     3 have tokens again"), "{lines:?}");
        assert!(lines[2].ends_with("    1 ask,     1 have tokens again"), "{lines:?}");
        for words in [
            "2 ask and 2 get",
            "100 ms (half)",
            "3700 ms (all)",
            "3 failures",
            "after 5.2 s",
        ] {
            assert!(lines[3].contains(words), "{words}: {}", lines[3]);
        }
        assert_eq!(lines[4], "    3 x launch 503 unavailable");
    }
}
