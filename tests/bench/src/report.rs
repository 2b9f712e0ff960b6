//! The figures, for people and for programs.

mod postgres;

use std::fmt::Write;

use agentwrit_testkit::load::moment;
use serde::Serialize;

use crate::bare::Alone;
use crate::baseline::{Beside, Rate, Raw};
use crate::database::Table;
use crate::goals::{GOAL_CLIENTS, Goal, IDLE_KIB, START_MS, Target};
use crate::measure::Sample;

pub use postgres::{Cost, OnPostgres, Stage};

/// One operation with so many clients.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What, with its yardstick and goals.
    pub target: Target,
    /// `quiet` or `default`.
    pub log: &'static str,
    /// The figure.
    pub sample: Sample,
    /// What was measured right before it.
    pub beside: Beside,
    /// The yardstick's rate.
    pub yardstick: Rate,
    /// Figure over yardstick, by the wall clock.
    pub share: f64,
    /// The same by CPU time, in which neighbours on the machine don't count.
    pub share_by_cpu: f64,
    /// The goals and whether they are met; empty where none is set.
    pub goals: Vec<Verdict>,
}

/// Whether a goal is met.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// The goal.
    pub goal: Goal,
    /// By the wall clock.
    pub met: bool,
    /// By CPU time, for shares: what counts on a machine with neighbours, when the broker is what limits.
    pub met_by_cpu: Option<bool>,
}

impl Row {
    /// Holds a figure against its yardstick and goals.
    pub fn new(target: Target, log: &'static str, sample: Sample, beside: Beside) -> Self {
        let yardstick = target.yardstick.rate(&beside);
        let applies = sample.clients == GOAL_CLIENTS && log == "quiet";
        let goals = if applies { target.goals } else { &[] };
        Self {
            share: sample.per_second / yardstick.wall,
            share_by_cpu: by_cpu(&sample, yardstick),
            goals: goals
                .iter()
                .map(|goal| Verdict {
                    goal: *goal,
                    met: goal.met(&sample, yardstick),
                    met_by_cpu: match goal {
                        Goal::Share(share) => Some(by_cpu(&sample, yardstick) >= *share),
                        Goal::Tail(_) | Goal::Rate(_) | Goal::PerCommit(_) => None,
                    },
                })
                .collect(),
            target,
            log,
            yardstick,
            sample,
            beside,
        }
    }
}

/// A figure that isn't a rate.
#[derive(Debug, Serialize)]
pub struct Single {
    /// What.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
    /// At most this, where a goal is set.
    pub goal: Option<f64>,
}

impl Single {
    /// A figure without a goal.
    pub fn new(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self {
            name,
            value,
            unit,
            goal: None,
        }
    }

    /// A start, milliseconds.
    pub fn start(name: &'static str, value: f64) -> Self {
        Self {
            goal: Some(START_MS),
            ..Self::new(name, value, "ms")
        }
    }

    /// Resident memory, KiB.
    pub fn resident(name: &'static str, kib: u64) -> Self {
        Self::new(name, moment::float(kib), "KiB")
    }

    /// Resident memory before any work, KiB.
    pub fn idle(name: &'static str, kib: u64) -> Self {
        Self {
            goal: Some(moment::float(IDLE_KIB)),
            ..Self::resident(name, kib)
        }
    }
}

/// The whole run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Cores of broker and clients; `None` on a machine with one.
    pub cores: Option<(usize, usize)>,
    /// Rates.
    pub rows: Vec<Row>,
    /// Everything else.
    pub singles: Vec<Single>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
    /// Rates on PostgreSQL.
    pub on_postgres: Vec<OnPostgres>,
    /// What its tables take after that.
    pub tables: Vec<Table>,
    /// What PostgreSQL does by itself.
    pub alone: Vec<Alone>,
    /// Costs with contents of the database; each two are held against each other.
    pub stages: Vec<Stage>,
}

fn by_cpu(sample: &Sample, yardstick: Rate) -> f64 {
    1e6 / sample.server_cpu_us / yardstick.cpu
}

fn verdict(met: bool) -> &'static str {
    if met { "yes" } else { "NO" }
}

impl Verdict {
    fn label(&self) -> String {
        match self.met_by_cpu {
            Some(by_cpu) if by_cpu != self.met => format!("{} (by CPU {})", verdict(self.met), verdict(by_cpu)),
            _ => verdict(self.met).to_owned(),
        }
    }
}

impl Row {
    fn line(&self) -> String {
        let sample = &self.sample;
        let goals: Vec<String> = self.goals.iter().map(|verdict| verdict.goal.label()).collect();
        let met: Vec<String> = self.goals.iter().map(Verdict::label).collect();
        let log = if self.log == "quiet" { "" } else { " (access lines)" };
        format!(
            "{:<38}{:>4}{:>9.0}{:>8}{:>9}{:>8.1}{:>8.2}{:>8.1}{:>7.0}%{:>7.0}%  {:<19}{:>8.0}{:>7.1}%{:>8.1}%  {:<19}{}\n",
            format!("{}{log}", self.target.operation.label()),
            sample.clients,
            sample.per_second,
            sample.p50_us,
            sample.p99_us,
            sample.server_cpu_us,
            sample.disk_kib,
            sample.per_commit,
            sample.server_core * 100.0,
            sample.client_core * 100.0,
            self.target.yardstick.label(),
            self.yardstick.wall,
            self.share * 100.0,
            self.share_by_cpu * 100.0,
            goals.join(", "),
            met.join(", "),
        )
    }
}

/// Median of a raw rate over all rows.
fn median(rows: &[Row], of: impl Fn(&Raw) -> Rate) -> Rate {
    let middle = |pick: &dyn Fn(Rate) -> f64| {
        let mut values: Vec<f64> = rows.iter().map(|row| pick(of(&row.beside.raw))).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Rate {
        wall: middle(&|rate| rate.wall),
        cpu: middle(&|rate| rate.cpu),
    }
}

impl Report {
    /// The table.
    pub fn text(&self) -> String {
        if self.rows.is_empty() {
            // Nothing of a broker on its file.
            return self.about_postgres();
        }
        let mut text = format!(
            "{:<38}{:>4}{:>9}{:>8}{:>9}{:>8}{:>8}{:>8}{:>8}{:>8}  {:<19}{:>8}{:>8}{:>9}  {:<19}{}\n",
            "operation",
            "cl.",
            "ops/s",
            "p50 us",
            "p99 us",
            "CPU us",
            "KiB/op",
            "/commit",
            "broker",
            "clients",
            "yardstick",
            "a second",
            "share",
            "by CPU",
            "goal",
            "met"
        );
        for row in &self.rows {
            text.push_str(&row.line());
        }
        text.push('\n');
        for single in &self.singles {
            let goal = single.goal.map_or_else(String::new, |goal| {
                format!("  goal {goal:.0} {}: {}", single.unit, verdict(single.value <= goal))
            });
            // Writing to a String can't fail.
            let _ = writeln!(text, "{:<60}{:>10.1} {}{goal}", single.name, single.value, single.unit);
        }
        text.push('\n');
        text.push_str(&self.raw());
        for skipped in &self.skipped {
            let _ = writeln!(text, "skipped: {skipped}");
        }
        text.push_str(&self.about_postgres());
        text
    }

    fn raw(&self) -> String {
        let line = |name: &str, of: fn(&Raw) -> Rate| {
            let rate = median(&self.rows, of);
            format!(
                "{name:<60}{:>10.0} a second{:>10.0} a second of CPU\n",
                rate.wall, rate.cpu
            )
        };
        [
            line("sign, aws-lc-rs with a prepared key", |raw| raw.sign_aws),
            line("sign, jsonwebtoken", |raw| raw.sign_jwt),
            line("sign, ed25519-dalek", |raw| raw.sign_dalek),
            line("verify, aws-lc-rs", |raw| raw.verify_aws),
            line("verify, jsonwebtoken", |raw| raw.verify_jwt),
            line("verify, ed25519-dalek (strict)", |raw| raw.verify_dalek),
            line("write of 4 KiB and fdatasync", |raw| raw.fsync),
        ]
        .concat()
    }
}
