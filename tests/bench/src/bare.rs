//! What PostgreSQL does by itself with the rows that the broker writes: pgbench on the database that brokers have left.
//!
//! The rows are those of a registration or a renewal, with texts as long as theirs, into the same tables with the same
//! indexes, under the lock of the chain's head. What the broker reads, checks, hashes and signs is left out.

use std::fs;
use std::time::Duration;

use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::moment;
use serde::Serialize;

use crate::database::{Database, failed, on_all};
use crate::goals::Operation;

/// Clients of the line whose transactions have one operation.
const SINGLES: u32 = 64;
/// Operations of one transaction at most, as in the broker.
const MOST: u32 = 256;

/// How the rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// As the broker does: one client, a transaction a batch, a statement for each row but those of the trail and of the
    /// feed, pipelined.
    Pipelined,
    /// The same with a statement for each table.
    Tables,
    /// A transaction for each operation, from 64 clients.
    Singles,
}

impl How {
    /// For people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pipelined => "batches, a statement a row, pipelined",
            Self::Tables => "batches, a statement a table",
            Self::Singles => "a transaction each, 64 clients",
        }
    }
}

/// What PostgreSQL gave.
#[derive(Debug, Serialize)]
pub struct Alone {
    /// Whose rows.
    pub operation: Operation,
    /// How they were written.
    pub how: How,
    /// Operations in one transaction.
    pub batch: u32,
    /// Transactions a second.
    pub commits: f64,
    /// Operations a second.
    pub per_second: f64,
    /// Write-ahead log of one operation, KiB.
    pub wal_kib: f64,
    /// CPU time of the server for one operation, microseconds.
    pub cpu_us: f64,
}

/// Measures the rows of an operation in all ways, with the broker's usual batch.
///
/// # Errors
/// When pgbench can't be run.
pub fn measure(
    database: &Database,
    operation: Operation,
    per_commit: f64,
    length: Duration,
    cores: &[usize],
    own: Option<usize>,
) -> Result<Vec<Alone>> {
    database.sql(PATTERNS)?;
    let batch = (1..MOST).find(|size| f64::from(*size) >= per_commit).unwrap_or(MOST);
    let patterns = Patterns::read(database)?;
    let mut found = Vec::new();
    for how in [How::Pipelined, How::Tables, How::Singles] {
        let script = patterns.script(operation, how, batch);
        found.push(on_all(cores, own, || {
            run(database, operation, how, (batch, &script), length)
        })?);
    }
    Ok(found)
}

/// Keeps patterns of what the broker has written, and numbers for rows after them.
const PATTERNS: &str = "
CREATE SCHEMA IF NOT EXISTS bench;
CREATE TABLE IF NOT EXISTS bench.event AS SELECT DISTINCT ON (event_type) * FROM audit_events
    WHERE event_type IN ('agent_registered', 'token_issued', 'token_renewed') ORDER BY event_type, seq DESC;
CREATE TABLE IF NOT EXISTS bench.target AS SELECT row_number() OVER () - 1 AS n, sid FROM
    (SELECT sid FROM sessions WHERE root IS NULL AND ended_at IS NULL ORDER BY sid DESC LIMIT 256) AS newest;
CREATE UNIQUE INDEX IF NOT EXISTS target_n ON bench.target (n);
CREATE SEQUENCE IF NOT EXISTS bench.number START 100000000;
ANALYZE bench.event, bench.target";

/// Columns of a session that a registration by hand fills, and a pattern of them.
const SESSION: &str = "SELECT format('%L, %L, %L, %L, %s, %s, %s, %s, %s, false, %L', agent_id, orch_id, task_id, scope, iat, exp, last_exp,
    kept_until, created_at, correlation_id) FROM sessions WHERE root IS NULL ORDER BY created_at DESC LIMIT 1";
/// An id as the broker makes them: the time, in steps of 64 ms, and random digits.
const ID: &str = "lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000 / 64)::bigint & 1048575), 5, '0') || substr(md5(random()::text), 1, 27)";
const LOCK: &str = "SELECT * FROM agentwrit.chain_head WHERE id = 1 FOR UPDATE;\n";
const NOTE: &str = "INSERT INTO agentwrit.committers (id, batch) VALUES ('pgbench' || :client_id, 1) \
    ON CONFLICT (id) DO UPDATE SET batch = agentwrit.committers.batch + 1, seen = now();\n";

/// What of the broker's rows is in the scripts.
struct Patterns {
    session: String,
    /// First event of the segment that grows.
    segment: String,
}

impl Patterns {
    fn read(database: &Database) -> Result<Self> {
        Ok(Self {
            // pgbench takes what follows a colon for a variable, also in a text.
            session: database.sql(SESSION)?.replace(':', "' || chr(58) || '"),
            segment: database.sql("SELECT growing_first FROM chain_head WHERE id = 1")?,
        })
    }

    fn script(&self, operation: Operation, how: How, batch: u32) -> String {
        let (rows, begin, end) = match how {
            How::Pipelined => (batch, "\\startpipeline\nBEGIN;\n", "COMMIT;\n\\endpipeline\n"),
            How::Tables => (batch, "BEGIN;\n", "COMMIT;\n"),
            How::Singles => (1, "BEGIN;\n", "COMMIT;\n"),
        };
        let mut script = format!("{begin}{LOCK}");
        match (operation, how) {
            (Operation::Renew, How::Singles) => script += &renewals("= :client_id"),
            (Operation::Renew, How::Pipelined) => {
                script.extend((0..rows).map(|number| renewals(&format!("= {number}"))));
            }
            (Operation::Renew, How::Tables) => script += &renewals(&format!("< {rows}")),
            (_, How::Pipelined) => script.extend((0..rows).map(|_| self.registrations(1))),
            (_, How::Tables | How::Singles) => script += &self.registrations(rows),
        }
        script += &self.events(operation, rows);
        if operation == Operation::Renew {
            script += &changes(rows);
        }
        script + NOTE + end
    }

    fn registrations(&self, rows: u32) -> String {
        format!(
            "INSERT INTO agentwrit.nonces (until, nonce) SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
             md5(random()::text) || md5(random()::text) FROM generate_series(1, {rows});\n\
             INSERT INTO agentwrit.sessions (sid, jti, status, agent_id, orch_id, task_id, scope, iat, exp, last_exp, kept_until, \
             created_at, barred, correlation_id) SELECT {ID}, {ID}, (random() * 1048575)::bigint, {} FROM generate_series(1, {rows});\n",
            self.session
        )
    }

    /// The events of so many operations, and the head after them.
    fn events(&self, operation: Operation, rows: u32) -> String {
        let types = match operation {
            Operation::Renew => "('token_renewed')",
            _ => "('agent_registered', 'token_issued')",
        };
        let columns = "event_type, outcome, agent_id, task_id, actor, source, correlation_id, policy_uid, pod_uid, error_kind, json";
        format!(
            "INSERT INTO agentwrit.audit_events (segment, seq, at, {columns}) SELECT {}, nextval('bench.number'), at, {columns} \
             FROM generate_series(1, {rows}), bench.event WHERE event_type IN {types};\n\
             UPDATE agentwrit.chain_head SET sequence = sequence + {rows}, hash = md5(hash) || md5(hash), \
             growing_events = growing_events + {rows}, growing_bytes = growing_bytes + {rows}, status_held = status_held + {rows} \
             WHERE id = 1;\n",
            self.segment
        )
    }
}

/// Renewals of those sessions whose number is so.
fn renewals(number: &str) -> String {
    format!(
        "UPDATE agentwrit.sessions AS s SET jti = {ID}, iat = iat, exp = exp, last_exp = greatest(last_exp, exp), prev_jti = jti, \
         prev_until = exp * 1000, prev_exp = exp, renew_key = NULL, prev_over = exp * 1000, kept_until = greatest(kept_until, 1) \
         FROM bench.target AS t WHERE t.n {number} AND s.sid = t.sid;\n"
    )
}

/// What the feed tells of so many renewals.
fn changes(rows: u32) -> String {
    format!(
        "WITH head AS (UPDATE agentwrit.chain_head SET view_seq = view_seq + {rows} WHERE id = 1) \
         INSERT INTO agentwrit.view_changes (seq, at, kind, target, value, extra, overlap_until, until) \
         SELECT nextval('bench.number'), 1800000000000, 'renewed', {ID}, {ID}, {ID}, 1800000000000, 1800000000000 \
         FROM generate_series(1, {rows});\n\
         SELECT pg_notify('agentwrit_view', '100000000');\n"
    )
}

fn run(
    database: &Database,
    operation: Operation,
    how: How,
    (batch, script): (u32, &str),
    length: Duration,
) -> Result<Alone> {
    let (mut pgbench, folder) = database.pgbench();
    let path = folder.join("script.sql");
    fs::write(&path, script).map_err(Failure::system("write a script for pgbench"))?;
    let clients = if how == How::Singles { SINGLES } else { 1 };
    let batch = if how == How::Singles { 1 } else { batch };
    let seconds = length.as_secs().max(1).to_string();
    let clients = clients.to_string();
    pgbench
        .args(["-n", "-M", "prepared", "-c", &clients, "-T", &seconds, "-f"])
        .arg(&path);
    let before = database.counters()?;
    let output = pgbench.output().map_err(Failure::system("run pgbench"))?;
    let after = database.counters()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let commits = rate(&text).filter(|_| output.status.success());
    let commits = commits.ok_or_else(|| failed("pgbench", &String::from_utf8_lossy(&output.stderr)))?;
    let done = transactions(&text) * f64::from(batch);
    Ok(Alone {
        operation,
        how,
        batch,
        commits,
        per_second: commits * f64::from(batch),
        wal_kib: moment::float(after.wal_bytes.saturating_sub(before.wal_bytes) / 1024) / done,
        cpu_us: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / done,
    })
}

/// Transactions a second in what pgbench prints.
fn rate(text: &str) -> Option<f64> {
    let (_, after) = text.split_once("tps = ")?;
    after.split_whitespace().next()?.parse().ok()
}

/// Transactions in what pgbench prints; 1 when it doesn't say.
fn transactions(text: &str) -> f64 {
    let after = text
        .split_once("transactions actually processed: ")
        .map_or("", |(_, after)| after);
    let number = after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    number.parse().unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "number of transactions actually processed: 1234\nnumber of failed transactions: 0 (0.000%)\n\
                           latency average = 1 ms\ntps = 617.5 (without initial connection time)\n";

    #[test]
    fn the_rate_is_read_from_what_pgbench_prints() {
        assert_eq!(rate(PRINTED), Some(617.5));
        assert!((transactions(PRINTED) - 1234.0).abs() < 1e-9);
        assert_eq!(rate("connection failed"), None);
    }

    #[test]
    fn a_pipelined_script_has_a_statement_for_each_row() {
        let patterns = Patterns {
            session: "'x'".into(),
            segment: "1".into(),
        };
        let count = |how: How, of: &str| patterns.script(Operation::Register, how, 5).matches(of).count();
        assert_eq!(count(How::Pipelined, "INTO agentwrit.sessions"), 5);
        assert_eq!(count(How::Tables, "INTO agentwrit.sessions"), 1);
        assert_eq!(
            count(How::Singles, "generate_series(1, 1)"),
            3,
            "nonce, session, events"
        );
        let renewals = patterns.script(Operation::Renew, How::Pipelined, 5);
        assert_eq!(renewals.matches("UPDATE agentwrit.sessions").count(), 5);
        assert_eq!(renewals.matches("INTO agentwrit.view_changes").count(), 1);
    }
}
