//! What `/v1/metrics` answers, taken apart.

use agentwrit_testkit::Harness;
use std::collections::{BTreeMap, BTreeSet};

/// A family of the exposition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    pub kind: String,
    pub help: String,
    /// But the bounds of buckets.
    pub labels: BTreeSet<String>,
}

/// The exposition, taken apart.
#[derive(Debug, Default)]
pub struct Exposition {
    pub families: BTreeMap<String, Family>,
    /// By name and labels, as written; those whose value is a whole number.
    pub samples: BTreeMap<String, i64>,
}

impl Exposition {
    /// What a scrape says now; the clock moves on so far that live agents are counted anew.
    pub async fn of(harness: &Harness) -> Self {
        harness.clock.advance_millis(1_000);
        Self::parse(&harness.get("/v1/metrics").await.text)
    }

    pub fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        let (mut family, mut help) = ("", "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                help = rest.split_once(' ').unwrap().1;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                family = name;
                let known = Family {
                    kind: kind.to_owned(),
                    help: help.to_owned(),
                    labels: BTreeSet::new(),
                };
                assert_eq!(parsed.families.insert(name.to_owned(), known), None, "{name} twice");
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert!(series.starts_with(family), "{series} belongs to {family}");
                value.parse::<f64>().unwrap();
                if let Ok(whole) = value.parse() {
                    assert_eq!(parsed.samples.insert(series.to_owned(), whole), None, "{series} twice");
                }
                let labels = &mut parsed.families.get_mut(family).unwrap().labels;
                labels.extend(
                    label(series)
                        .map(|(name, _)| name.to_owned())
                        .filter(|name| name != "le"),
                );
            }
        }
        parsed
    }

    /// The values of a family's one label.
    pub fn values(&self, family: &str) -> BTreeSet<&str> {
        let mine = |series: &&String| {
            series
                .strip_prefix("agentwrit_")
                .and_then(|rest| rest.strip_prefix(family))
                .is_some_and(|rest| rest.starts_with(['{', '_']))
        };
        let labels = self.samples.keys().filter(mine).filter_map(|series| label(series));
        labels.map(|(_, value)| value).collect()
    }

    pub fn value(&self, series: &str) -> i64 {
        self.samples[&format!("agentwrit_{series}")]
    }
}

/// The first label of a series.
fn label(series: &str) -> Option<(&str, &str)> {
    let (name, rest) = series.split_once('{')?.1.split_once("=\"")?;
    Some((name, rest.split_once('"')?.0))
}
