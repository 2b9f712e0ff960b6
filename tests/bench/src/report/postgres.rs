//! The figures on PostgreSQL.

use std::fmt::Write;

use agentwrit_testkit::load::moment;
use serde::Serialize;

use super::{Report, Verdict, verdict};
use crate::bare::Alone;
use crate::baseline::Rate;
use crate::database::Statement;
use crate::goals::{Goal, Operation};
use crate::measure::Sample;

/// Pages of an operation may grow by this factor, from a short trail to a long one and from no revocations to many.
const FLAT: f64 = 1.3;
/// Statements that are shown of a cost that isn't flat.
const SHOWN: usize = 6;

/// One operation on replicas.
#[derive(Debug, Serialize)]
pub struct OnPostgres {
    /// What.
    pub operation: Operation,
    /// On how many.
    pub replicas: usize,
    /// The figure.
    pub sample: Sample,
    /// That of SQLite with as many clients, of the same run.
    pub sqlite: Option<Sample>,
    /// Figure over that of SQLite.
    pub share: Option<f64>,
    /// The goals and whether they are met.
    pub goals: Vec<Verdict>,
}

/// What an operation cost in a stage.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// What.
    pub operation: Operation,
    /// The figure.
    pub sample: Sample,
}

/// Costs with one content of the database.
#[derive(Debug, Serialize)]
pub struct Stage {
    /// What is in it.
    pub name: &'static str,
    /// Events at its begin.
    pub events: u64,
    /// Ended sessions at its begin.
    pub ended: u64,
    /// Of each operation.
    pub costs: Vec<Cost>,
    /// Of each statement, also of what was prepared.
    pub statements: Vec<Statement>,
}

impl Verdict {
    /// Holds a figure on PostgreSQL against that of SQLite.
    pub fn against_sqlite(goal: Goal, sample: &Sample, sqlite: Option<&Sample>) -> Self {
        let yardstick = sqlite.map_or(f64::INFINITY, |sqlite| sqlite.per_second);
        let yardstick = Rate {
            wall: yardstick,
            cpu: yardstick,
        };
        Self {
            goal,
            met: goal.met(sample, yardstick),
            met_by_cpu: None,
        }
    }
}

impl Sample {
    fn pages(&self) -> f64 {
        self.database.map_or(0.0, |database| database.pages)
    }
}

impl OnPostgres {
    fn line(&self) -> String {
        let sample = &self.sample;
        let goals: Vec<String> = self.goals.iter().map(|verdict| verdict.goal.label()).collect();
        let met: Vec<&str> = self.goals.iter().map(|goal| verdict(goal.met)).collect();
        let database = sample.database.unwrap_or_default();
        format!(
            "{:<26}{:>4}{:>5}{:>9.0}{:>8.0}%{:>8}{:>9}{:>9.1}{:>9.1}{:>8.0}%{:>8.0}%{:>9.0}{:>9.1}{:>8.2}{:>9.2}  {:<8}{}\n",
            self.operation.label(),
            self.replicas,
            sample.clients,
            sample.per_second,
            self.share.unwrap_or_default() * 100.0,
            sample.p50_us,
            sample.p99_us,
            sample.server_cpu_us,
            database.cpu_us,
            (sample.server_core + database.core) * 100.0,
            sample.client_core * 100.0,
            if sample.per_commit > 0.0 {
                sample.per_second / sample.per_commit
            } else {
                0.0
            },
            sample.per_commit,
            database.wal_kib,
            self.sqlite.as_ref().map_or(0.0, |sqlite| sqlite.disk_kib),
            goals.join(", "),
            met.join(", "),
        )
    }
}

impl Report {
    /// The tables about PostgreSQL; empty when none was measured.
    pub(super) fn about_postgres(&self) -> String {
        // Writing to a String can't fail.
        let mut text = String::new();
        if !self.on_postgres.is_empty() {
            let _ = write!(
                text,
                "\non PostgreSQL{:<13}{:>4}{:>5}{:>9}{:>9}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>8}{:>9}  {:<8}met\n",
                "",
                "rep.",
                "cl.",
                "ops/s",
                "SQLite",
                "p50 us",
                "p99 us",
                "CPU us",
                "its CPU",
                "cores",
                "clients",
                "commits/s",
                "/commit",
                "WAL KiB",
                "SQLite's",
                "goal"
            );
            text.extend(self.on_postgres.iter().map(OnPostgres::line));
        }
        if !self.alone.is_empty() {
            let _ = write!(
                text,
                "\n{:<58}{:>8}{:>11}{:>9}{:>10}{:>9}\n",
                "PostgreSQL alone, by pgbench: rows of", "a batch", "commits/s", "ops/s", "WAL KiB", "CPU us"
            );
            text.extend(self.alone.iter().map(Alone::line));
        }
        for table in &self.tables {
            let bytes = moment::float(table.bytes) / moment::float(table.rows.max(1));
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "table {:<20}{:>10} rows{:>8.0} bytes a row, with indexes",
                table.name, table.rows, bytes
            );
        }
        for pair in self.stages.chunks(2) {
            if let [before, after] = pair {
                text += &growth(before, after);
            }
        }
        text
    }
}

impl Alone {
    fn line(&self) -> String {
        format!(
            "{:<58}{:>8}{:>11.0}{:>9.0}{:>10.2}{:>9.1}\n",
            format!("{}: {}", self.operation.label(), self.how.label()),
            self.batch,
            self.commits,
            self.per_second,
            self.wal_kib,
            self.cpu_us
        )
    }
}

/// What grew from one stage to the next.
fn growth(before: &Stage, after: &Stage) -> String {
    let mut text = format!(
        "\npages an operation: {} ({} events, {} ended sessions), {} ({}, {})\n",
        before.name, before.events, before.ended, after.name, after.events, after.ended
    );
    let mut is_flat = true;
    for (short, long) in before.costs.iter().zip(&after.costs) {
        let (few, many) = (short.sample.pages(), long.sample.pages());
        let ratio = ratio(few, many);
        is_flat &= ratio <= FLAT;
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "{:<26}{few:>9.1}{many:>9.1}{ratio:>7.2} times  goal {FLAT}: {:<4} CPU us {:>7.1}{:>8.1}, its CPU {:>7.1}{:>8.1}, /commit {:>5.1}{:>6.1}",
            short.operation.label(),
            verdict(ratio <= FLAT),
            short.sample.server_cpu_us,
            long.sample.server_cpu_us,
            short.sample.database.unwrap_or_default().cpu_us,
            long.sample.database.unwrap_or_default().cpu_us,
            short.sample.per_commit,
            long.sample.per_commit,
        );
    }
    if !is_flat {
        text += "statements whose pages a call grew most:\n";
        for (grown, statement, few) in grown(before, after).into_iter().take(SHOWN) {
            let _ = writeln!(
                text,
                "{few:>9.1}{:>9.1} (+ {grown:.0} in all)  {}",
                statement.pages, statement.text
            );
        }
    }
    text
}

fn ratio(few: f64, many: f64) -> f64 {
    // An operation that asks the database for nothing stays as it is.
    if many == 0.0 { 1.0 } else { many / few.max(0.1) }
}

/// Statements by what their growth came to in the later stage.
fn grown<'s>(before: &Stage, after: &'s Stage) -> Vec<(f64, &'s Statement, f64)> {
    let mut grown: Vec<_> = after
        .statements
        .iter()
        .filter_map(|statement| {
            let earlier = before
                .statements
                .iter()
                .find(|earlier| earlier.text == statement.text)?;
            let calls = f64::from(u32::try_from(statement.calls).unwrap_or(u32::MAX));
            Some(((statement.pages - earlier.pages) * calls, statement, earlier.pages))
        })
        .collect();
    grown.sort_by(|a, b| b.0.total_cmp(&a.0));
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(text: &str, calls: u64, pages: f64) -> Statement {
        Statement {
            calls,
            pages,
            wal_bytes: 0.0,
            micros: 0.0,
            text: text.into(),
        }
    }

    fn stage(statements: Vec<Statement>) -> Stage {
        Stage {
            name: "a stage",
            events: 0,
            ended: 0,
            costs: vec![],
            statements,
        }
    }

    #[test]
    fn what_grew_most_in_all_comes_first() {
        let before = stage(vec![
            statement("few", 9, 1.0),
            statement("many", 9, 1.0),
            statement("gone", 9, 1.0),
        ]);
        let after = stage(vec![
            statement("few", 10, 9.0),
            statement("many", 1000, 2.0),
            statement("new", 9, 9.0),
        ]);
        let found: Vec<_> = grown(&before, &after)
            .into_iter()
            .map(|(sum, found, _)| (sum, &*found.text))
            .collect();
        assert_eq!(found, [(1000.0, "many"), (80.0, "few")]);
    }

    #[test]
    fn what_asks_the_database_for_nothing_is_flat() {
        assert!((ratio(0.0, 0.0) - 1.0).abs() < 1e-9);
        assert!((ratio(10.0, 13.0) - 1.3).abs() < 1e-9);
        assert!(ratio(0.0, 1.0) > FLAT);
    }
}
