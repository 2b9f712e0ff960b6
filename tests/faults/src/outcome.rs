//! What came of a fault, as a line and as JSON.

use std::fmt::Write;
use std::time::Duration;

use agentwrit_crash::check::Findings;
use serde_json::json;

use crate::Fault;

/// What came of a fault.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which.
    pub fault: Fault,
    /// How often.
    pub rounds: u32,
    /// Operations that were acknowledged.
    pub acknowledged: u64,
    /// Answers 503.
    pub refused: u64,
    /// Connections that broke under a request.
    pub broken: u64,
    /// Events of the trail.
    pub events: usize,
    /// What the slowest answer took.
    pub slowest: Duration,
    /// From the end of a fault until every replica had committed something, at most.
    pub back: Option<Duration>,
    /// What is special to it, each as a person reads it, and with its figures.
    pub notes: Vec<(String, serde_json::Value)>,
    /// What is wrong.
    pub findings: Findings,
    /// Why it was not done, when it can't be done here.
    pub left_out: Option<String>,
}

impl Outcome {
    /// Nothing yet.
    pub fn new(fault: Fault, rounds: u32) -> Self {
        Self {
            fault,
            rounds,
            acknowledged: 0,
            refused: 0,
            broken: 0,
            events: 0,
            slowest: Duration::ZERO,
            back: None,
            notes: Vec::new(),
            findings: Findings::default(),
            left_out: None,
        }
    }

    /// Whether all is as it must be.
    pub fn is_good(&self) -> bool {
        self.findings.count == 0
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let name = self.fault.name();
        if let Some(why) = &self.left_out {
            return format!("{name}: left out: {why}");
        }
        let chain = if self.is_good() { "verifies" } else { "was read" };
        let mut line = format!(
            "{name}: {} rounds, {} acknowledged, {} lost, {} doubled, chain of {} events {chain}",
            self.rounds,
            grouped(self.acknowledged),
            self.findings.lost,
            self.findings.doubled,
            grouped(u64::try_from(self.events).unwrap_or_default()),
        );
        if self.refused + self.broken > 0 {
            let _ = write!(
                line,
                ", {} answered 503, {} connections broken",
                grouped(self.refused),
                grouped(self.broken)
            );
        }
        if let Some(back) = self.back {
            let _ = write!(line, ", back after {}", seconds(back));
        }
        let _ = write!(line, ", slowest answer {}", seconds(self.slowest));
        for (note, _) in &self.notes {
            let _ = write!(line, ", {note}");
        }
        if !self.is_good() {
            let _ = write!(line, ", {} FINDINGS", self.findings.count);
        }
        line
    }

    /// The same for programs.
    pub fn json(&self) -> serde_json::Value {
        let figures: serde_json::Map<_, _> = self
            .notes
            .iter()
            .filter_map(|(_, figures)| figures.as_object())
            .flat_map(Clone::clone)
            .collect();
        json!({
            "fault": self.fault.name(), "rounds": self.rounds, "good": self.is_good(), "left_out": self.left_out,
            "acknowledged": self.acknowledged, "lost": self.findings.lost, "doubled": self.findings.doubled,
            "events": self.events, "answered_503": self.refused, "connections_broken": self.broken,
            "back_seconds": self.back.map(|back| back.as_secs_f64()), "slowest_seconds": self.slowest.as_secs_f64(),
            "figures": figures, "findings": self.findings.count, "first_findings": self.findings.texts,
        })
    }
}

/// `1.2 s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_what_is_lost_and_says_when_it_is_bad() {
        let mut outcome = Outcome {
            acknowledged: 3_412,
            events: 5_120,
            back: Some(Duration::from_millis(1_234)),
            ..Outcome::new(Fault::KillBroker, 20)
        };
        let wanted = "kill-broker: 20 rounds, 3,412 acknowledged, 0 lost, 0 doubled, chain of 5,120 events verifies, back after 1.2 s";
        assert!(outcome.line().starts_with(wanted), "{}", outcome.line());
        assert!(outcome.is_good() && outcome.json()["good"] == true);
        outcome.findings = Findings {
            lost: 2,
            ..Findings::one("a token stands")
        };
        assert!(outcome.line().contains("2 lost") && outcome.line().ends_with("1 FINDINGS"));
        assert!(!outcome.is_good() && outcome.json()["lost"] == 2);
    }

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
