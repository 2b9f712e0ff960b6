//! What was measured and counted, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::say;

/// How times are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Seconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of these times.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |hundredths: usize| {
            let rank = (times.len() * hundredths).div_ceil(100).max(1);
            times.get(rank - 1).map_or(0.0, Duration::as_secs_f64)
        };
        Self {
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }

    /// In milliseconds.
    pub(crate) fn text(&self) -> String {
        let [p50, p99, max] = [self.p50, self.p99, self.max].map(|seconds| seconds * 1000.0);
        format!("p50 {p50:.0} ms, p99 {p99:.0} ms, longest {max:.0} ms")
    }
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    what: String,
    figure: String,
    #[serde(flatten)]
    verdict: Verdict,
}

/// What a line is held against.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Verdict {
    /// Nothing.
    Figure,
    /// A goal of speed or size: told, no more.
    Goal { goal: String, met: bool },
    /// A count that must be so on every machine.
    Count { must_be: String, holds: bool },
}

impl Line {
    fn text(&self) -> String {
        let verdict = match &self.verdict {
            Verdict::Figure => String::new(),
            Verdict::Goal { goal, met } => format!(" (goal {goal}: {})", if *met { "met" } else { "not met" }),
            Verdict::Count { must_be, holds: true } => format!(" (must be {must_be}: so it is)"),
            Verdict::Count { must_be, holds: false } => format!(" (must be {must_be}: FAILED)"),
        };
        format!("{}: {}{verdict}", self.what, self.figure)
    }
}

/// All of them, in the order in which they came.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Report {
    fn add(&mut self, what: &str, figure: String, verdict: Verdict) {
        let what = what.to_owned();
        let line = Line { what, figure, verdict };
        // As it comes: a run takes minutes.
        say(&line.text());
        self.lines.push(line);
    }

    pub(crate) fn figure(&mut self, what: &str, figure: impl Into<String>) {
        self.add(what, figure.into(), Verdict::Figure);
    }

    pub(crate) fn goal(&mut self, what: &str, figure: impl Into<String>, goal: &str, met: bool) {
        let goal = goal.to_owned();
        self.add(what, figure.into(), Verdict::Goal { goal, met });
    }

    pub(crate) fn count(&mut self, what: &str, figure: impl Into<String>, must_be: &str, holds: bool) {
        let must_be = must_be.to_owned();
        self.add(what, figure.into(), Verdict::Count { must_be, holds });
    }

    /// How many counts hold, and how many don't.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let of = |wanted: bool| {
            let is = |line: &&Line| matches!(line.verdict, Verdict::Count { holds, .. } if holds == wanted);
            self.lines.iter().filter(is).count()
        };
        (of(true), of(false))
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            // A String takes everything.
            let _ = writeln!(text, "{}", line.text());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_the_times_themselves() {
        let spread = Spread::of((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!((spread.p50, spread.p99, spread.max), (0.1, 0.198, 0.2));
        assert_eq!(Spread::of(vec![]), Spread::default());
    }

    #[test]
    fn goals_are_told_and_counts_are_judged() {
        let mut report = Report::default();
        report.goal("speed", "3 s", "1 s", false);
        report.count("writes", "2", "at most 2", true);
        assert_eq!(report.counts(), (1, 0));
        report.count("writes at rest", "1", "0", false);
        assert_eq!(report.counts(), (1, 1));
        let text = report.text();
        assert!(
            text.contains("goal 1 s: not met") && text.contains("must be 0: FAILED"),
            "{text}"
        );
    }
}
