//! A run as text with its histogram, or as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::arrivals::Second;
use crate::figures::GOAL;
use crate::simulation::Run;

/// Columns of the longest bar.
const WIDTH: f64 = 50.0;
/// Lines of the histogram: seconds in one, and how many lines at most, before and after the broker is back.
const LINE: u64 = 5;
const AFTER: u64 = 26;
const BEFORE: u64 = 4;

/// The figures, and the histogram around the broker's return.
pub fn text(run: &Run) -> String {
    let figures = run.figures();
    let scenario = &run.scenario;
    let verdict = if figures.ratio <= GOAL { "met" } else { "not met" };
    let mut text = format!("{}: {} pods, {}\n", scenario.name, scenario.pods, scenario.what);
    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "  requests a second: steady {:.0} (busiest second {:.0}); after the broker's return at most {:.0}, {} s after it: {:.2} times (goal {GOAL}: {verdict}), later {:.2}",
        figures.steady, figures.steady_peak, figures.peak, figures.peak_after, figures.ratio, figures.later_ratio
    );
    let _ = writeln!(
        text,
        "  renewals a second: steady {:.1}; at most {:.2} times that. Tries while it was away: at most {:.0} a second",
        figures.renewals, figures.renewals_ratio, figures.unanswered_peak
    );
    let _ = writeln!(
        text,
        "  tokens that expired: {}, of them with the broker there for 2 s: {}; dishonest looks: {}",
        run.expired, run.late, run.dishonest
    );
    let _ = writeln!(
        text,
        "  pods without a token: at most {}; none {} s after the return. Start to token with the broker there: at most {} ms",
        figures.without_token, figures.all_after, run.longest_start
    );
    histogram(&mut text, run, figures.steady);
    text
}

/// Requests a second, a line for five seconds: `=` up to twice the steady rate, `#` beyond, `.` tries that met nobody.
fn histogram(text: &mut String, run: &Run, steady: f64) {
    let back = run.scenario.away.end;
    let _ = writeln!(
        text,
        "      s  all/s  max  launch challenge register renew validate  away  no token"
    );
    let begin = back.saturating_sub(BEFORE * LINE);
    for line in 0..BEFORE + AFTER {
        let from = begin + line * LINE;
        let seconds = run.arrivals.between(from, from + LINE);
        if seconds.is_empty() {
            break;
        }
        let count = f64::from(u32::try_from(seconds.len()).unwrap_or(u32::MAX));
        let rate = |what: fn(&Second) -> u32| f64::from(seconds.iter().map(what).sum::<u32>()) / count;
        let (all, away) = (rate(Second::arrived), rate(|second| second.unanswered));
        let most = seconds.iter().map(Second::arrived).max().unwrap_or_default();
        let without = seconds.last().map_or(0, |second| second.without_token);
        let when = if from < back {
            format!("-{}", back - from)
        } else {
            format!("+{}", from - back)
        };
        let _ = writeln!(
            text,
            "  {when:>5} {all:>6.0} {most:>4} {:>7.0} {:>9.0} {:>8.0} {:>5.0} {:>8.0} {away:>5.0} {without:>9}  {}",
            rate(|second| second.launch),
            rate(|second| second.challenge),
            rate(|second| second.register),
            rate(|second| second.renew),
            rate(|second| second.validate),
            bar(all, away, steady)
        );
    }
}

/// Twice the steady rate is half of the width.
fn bar(all: f64, away: f64, steady: f64) -> String {
    let column = GOAL * 2.0 * steady / WIDTH;
    let mut bar = String::new();
    let mut reached = column / 2.0;
    while reached <= all.max(away) && bar.len() < 60 {
        bar.push(if reached > all {
            '.'
        } else if reached > GOAL * steady {
            '#'
        } else {
            '='
        });
        reached += column;
    }
    bar
}

/// The same with every second of the run.
pub fn json(run: &Run) -> Value {
    let scenario = &run.scenario;
    json!({
        "name": scenario.name,
        "what": scenario.what,
        "pods": scenario.pods,
        "ttl_seconds": scenario.ttl,
        "away_from": scenario.away.start,
        "away_to": scenario.away.end,
        "figures": run.figures(),
        "expired": run.expired,
        "late": run.late,
        "dishonest": run.dishonest,
        "longest_start_ms": run.longest_start,
        "seconds": run.arrivals.seconds(),
    })
}
