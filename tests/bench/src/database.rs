//! PostgreSQL under the broker: a server of our own whose commits reach a disk, and what it has used so far.

use std::fmt::Display;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::process::spread;
use agentwrit_testkit::postgres::Server;

/// Clock ticks of `/proc/PID/stat` a second: `USER_HZ`, the same on every Linux of today.
const TICKS: u32 = 100;
/// What the server has beyond its defaults: room for what is measured, as a server of a few GiB has it.
const SETTINGS: [&str; 1] = ["shared_buffers=512MB"];
/// Those that grow with use.
const TABLES: [&str; 5] = ["audit_events", "sessions", "nonces", "revocations", "view_changes"];
/// Counts pages by statement; only where they are asked for, since it costs some CPU.
const STATEMENTS: &str = "shared_preload_libraries=pg_stat_statements";

/// What a database's server has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// CPU time of all its processes, also of those that have ended.
    pub cpu: Duration,
    /// Write-ahead log.
    pub wal_bytes: u64,
    /// Pages that statements have looked at, in memory or not; 0 when they are not counted.
    pub pages: u64,
}

/// A database on a server of ours.
pub struct Database {
    server: Arc<Server>,
    name: String,
    counts_pages: bool,
}

/// What a database or its server has refused.
pub(crate) fn failed(what: &str, why: &dyn Display) -> Failure {
    Failure::Broker(format!("PostgreSQL, {what}: {why}"))
}

/// Starts a server on all these cores; the calling thread is on its own again afterwards.
///
/// # Errors
/// When the cores are not ours.
pub fn start_server(cores: &[usize], own: Option<usize>, counts_pages: bool) -> Result<Arc<Server>> {
    let mut settings: Vec<String> = SETTINGS.map(str::to_owned).into();
    settings.extend(counts_pages.then(|| STATEMENTS.to_owned()));
    on_all(cores, own, || Ok(Arc::new(Server::start_on_disk(&settings))))
}

/// Does something whose processes may use all these cores.
///
/// # Errors
/// Its own, or when the cores are not ours.
pub fn on_all<T>(cores: &[usize], own: Option<usize>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    spread(cores)?;
    let done = work();
    if let Some(own) = own {
        spread(&[own])?;
    }
    done
}

impl Database {
    /// A new one on this server.
    ///
    /// # Errors
    /// When the server doesn't count pages though it should.
    pub fn new(server: &Arc<Server>, counts_pages: bool) -> Result<Self> {
        let database = Self {
            name: server.database(),
            server: Arc::clone(server),
            counts_pages,
        };
        if counts_pages {
            database.sql("CREATE EXTENSION pg_stat_statements SCHEMA public")?;
        }
        Ok(database)
    }

    /// Its URL for a broker, which owns its tables.
    pub fn url(&self) -> String {
        self.server.url("owner", &self.name)
    }

    /// Runs SQL in it, past the broker's triggers, and answers what it prints.
    ///
    /// # Errors
    /// What psql says.
    pub fn sql(&self, sql: &str) -> Result<String> {
        let sql = format!("SET search_path = agentwrit, public; SET session_replication_role = replica; {sql}");
        self.server
            .sql(&self.name, &sql)
            .map_err(|error| failed("psql", &error))
    }

    /// Runs one statement in it that can't be in a transaction.
    ///
    /// # Errors
    /// What psql says.
    pub fn outside_transactions(&self, sql: &str) -> Result<()> {
        let done = self.server.sql(&self.name, sql);
        done.map(drop).map_err(|error| failed("psql", &error))
    }

    /// `pgbench` on it, without arguments beyond its name; and the folder that it can read scripts from.
    pub fn pgbench(&self) -> (Command, &std::path::Path) {
        let mut command = self.server.program("pgbench");
        command.env("PGDATABASE", &self.name);
        (command, self.server.folder())
    }

    /// What the server has used so far.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn counters(&self) -> Result<Counters> {
        let pages = if self.counts_pages {
            "(SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0) FROM pg_stat_statements \
             WHERE query NOT LIKE '%pg_stat_statements%')"
        } else {
            "0"
        };
        let answer = self.sql(&format!(
            "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, {pages}::bigint"
        ))?;
        let mut numbers = answer.split('|').map(|text| text.trim().parse().unwrap_or_default());
        Ok(Counters {
            wal_bytes: numbers.next().unwrap_or_default(),
            pages: numbers.next().unwrap_or_default(),
            cpu: self.cpu()?,
        })
    }

    /// Pages that each statement looks at a call, and calls, of all since [`Self::forget_statements`]; costly ones first.
    ///
    /// # Errors
    /// When the server doesn't say.
    pub fn statements(&self) -> Result<Vec<Statement>> {
        let answer = self.sql(
            "SELECT calls, (shared_blks_hit + shared_blks_read)::float8 / calls, (wal_bytes / calls)::float8, \
             total_exec_time * 1000 / calls, left(regexp_replace(query, '\\s+', ' ', 'g'), 200) FROM pg_stat_statements \
             WHERE calls > 20 AND query NOT LIKE '%pg_stat_statements%' ORDER BY shared_blks_hit + shared_blks_read DESC",
        )?;
        Ok(answer.lines().filter_map(Statement::from_line).collect())
    }

    /// What the tables take with their indexes; partitions as one.
    ///
    /// # Errors
    /// When the server doesn't say.
    pub fn tables(&self) -> Result<Vec<Table>> {
        let mut tables = Vec::new();
        for name in TABLES {
            let answer = self.sql(&format!(
                "SELECT (SELECT count(*) FROM {name}), pg_total_relation_size('{name}') + \
                 coalesce((SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = '{name}'::regclass), 0)"
            ))?;
            let mut numbers = answer.split('|').map(|text| text.trim().parse().unwrap_or_default());
            tables.push(Table {
                name,
                rows: numbers.next().unwrap_or_default(),
                bytes: numbers.next().unwrap_or_default(),
            });
        }
        Ok(tables)
    }

    /// Begins to count anew.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn forget_statements(&self) -> Result<()> {
        self.sql("SELECT pg_stat_statements_reset()").map(drop)
    }

    fn cpu(&self) -> Result<Duration> {
        let path = self.server.folder().join("data/postmaster.pid");
        let text = fs::read_to_string(&path).map_err(Failure::system("read the server's process id"))?;
        let postmaster: u32 = text
            .lines()
            .next()
            .and_then(|line| line.parse().ok())
            .unwrap_or_default();
        let mut ticks = 0;
        let listed = fs::read_dir("/proc").map_err(Failure::system("list processes"))?;
        for entry in listed.flatten() {
            let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // One that has ended meanwhile is in its parent's sums.
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            ticks += ticks_of(&stat, process == postmaster, postmaster);
        }
        Ok(Duration::from_secs(1) * ticks / TICKS)
    }
}

/// CPU time in a line of `/proc/PID/stat`: that of the parent with that of its children that have ended, that of a living
/// child, none of others.
fn ticks_of(stat: &str, is_parent: bool, parent: u32) -> u32 {
    // The program's name is in parentheses and may hold spaces; what follows is the third field and on.
    let fields: Vec<&str> = stat
        .rsplit_once(") ")
        .map_or("", |(_, after)| after)
        .split(' ')
        .collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u32>().ok())
            .unwrap_or_default()
    };
    if is_parent {
        (11..15).map(number).sum()
    } else if number(1) == parent {
        (11..13).map(number).sum()
    } else {
        0
    }
}

/// What a table takes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Rows in it.
    pub rows: u64,
    /// On the disk, with its indexes and what is dead of it.
    pub bytes: u64,
}

/// What one statement has cost.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Statement {
    /// How often it ran.
    pub calls: u64,
    /// Pages a call.
    pub pages: f64,
    /// Bytes of write-ahead log a call.
    pub wal_bytes: f64,
    /// Microseconds a call, in the server, without the parsing.
    pub micros: f64,
    /// Its beginning.
    pub text: String,
}

impl Statement {
    fn from_line(line: &str) -> Option<Self> {
        let mut parts = line.splitn(5, '|');
        Some(Self {
            calls: parts.next()?.parse().ok()?,
            pages: parts.next()?.parse().ok()?,
            wal_bytes: parts.next()?.parse().ok()?,
            micros: parts.next()?.parse().ok()?,
            text: parts.next()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_that_of_the_parent_and_its_children() {
        let line = |parent: u32| format!("7 (post gres) S {parent} 1 1 0 -1 0 0 0 0 0 100 20 3 4 20 0 1 0");
        assert_eq!(ticks_of(&line(1), true, 7), 127, "with those that have ended");
        assert_eq!(ticks_of(&line(7), false, 7), 120);
        assert_eq!(ticks_of(&line(8), false, 7), 0);
        assert_eq!(ticks_of("", false, 7), 0, "it has just ended");
    }

    #[test]
    fn a_statements_text_may_hold_what_separates_columns() {
        let read = Statement::from_line("21|3.5|100|9.25|SELECT $2 || 'g'").unwrap();
        assert_eq!((read.calls, read.text.as_str()), (21, "SELECT $2 || 'g'"));
        assert_eq!(Statement::from_line("21|3.5"), None);
    }
}
