//! Losses made on purpose, on copies of a store: the check must find each.
//!
//! This is the one place here that knows the broker's schema.

use std::path::Path;

use agentwrit_testkit::load::agent::claims;
use agentwrit_testkit::load::failure::{Failure, Result};
use rusqlite::{Connection, params};

use crate::ledger::{Agent, End, Ledger};
use crate::run::NOT_OPEN;

/// One loss.
pub struct Tamper {
    /// Its name, also of the folder.
    pub name: &'static str,
    /// Makes it, in the store at this path.
    pub apply: fn(&Path, &[Ledger]) -> Result<()>,
    /// One of the findings must say one of these.
    pub found: &'static [&'static str],
}

/// All of them.
pub const TAMPERS: &[Tamper] = &[
    Tamper {
        name: "events-cut-off",
        apply: |path, _| {
            change(
                path,
                "DELETE FROM audit_events WHERE seq > (SELECT max(seq) - 5 FROM audit_events)",
                "",
            )
        },
        found: &["events, not 1", NOT_OPEN],
    },
    Tamper {
        name: "event-missing",
        apply: |path, _| {
            change(
                path,
                "DELETE FROM audit_events WHERE seq = (SELECT max(seq) / 2 FROM audit_events)",
                "",
            )
        },
        found: &["stands where", NOT_OPEN],
    },
    Tamper {
        name: "event-changed",
        apply: |path, _| {
            let change_detail = "UPDATE audit_events SET json = replace(json, '\"detail\":\"', '\"detail\":\"x') \
                WHERE seq = (SELECT max(seq) / 2 FROM audit_events)";
            change(path, change_detail, "")
        },
        found: &["hash is not that of its content", NOT_OPEN],
    },
    Tamper {
        name: "event-twice",
        apply: |path, _| {
            let columns = columns(path, "audit_events", "seq")?;
            let copy = format!(
                "INSERT INTO audit_events (seq, {columns}) SELECT seq + 1, {columns} FROM audit_events \
                 ORDER BY seq DESC LIMIT 1"
            );
            change(path, &copy, "")
        },
        found: &["stands where", NOT_OPEN],
    },
    Tamper {
        name: "registration-lost",
        apply: |path, ledgers| {
            let agent = find(ledgers, Agent::lives)?;
            change(path, "DELETE FROM sessions WHERE sid = ?1", &claims(&agent.token)?.sid)
        },
        found: &["renewal after the restart"],
    },
    Tamper {
        name: "release-lost",
        apply: |path, ledgers| {
            let agent = find(ledgers, |agent| agent.end == Some(End::Released))?;
            let stand = "UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE sid = ?1";
            change(path, stand, &claims(&agent.token)?.sid)
        },
        found: &["stands, but it was Released"],
    },
    Tamper {
        name: "revocation-lost",
        apply: |path, ledgers| {
            let agent = find(ledgers, |agent| agent.end == Some(End::Revoked))?;
            let claims = claims(&agent.token)?;
            change(path, "DELETE FROM revocations WHERE target = ?1", &claims.jti)?;
            let stand = "UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE sid = ?1";
            change(path, stand, &claims.sid)
        },
        found: &["stands, but it was Revoked"],
    },
    Tamper {
        name: "renewal-lost",
        apply: |path, ledgers| {
            let agent = find(ledgers, |agent| agent.lives() && !agent.replaced.is_empty())?;
            let replaced = agent.replaced.last().map(String::as_str).unwrap_or_default();
            let forget = "UPDATE sessions SET prev_jti = NULL, prev_until = NULL, prev_exp = NULL WHERE prev_jti = ?1";
            change(path, forget, &claims(replaced)?.jti)
        },
        found: &["stands, but a renewal replaced it"],
    },
];

fn failed(error: &rusqlite::Error) -> Failure {
    Failure::Broker(format!("tamper with a store: {error}"))
}

/// Runs a statement that must change exactly one row, or several when it has no parameter.
fn change(path: &Path, statement: &str, parameter: &str) -> Result<()> {
    let store = Connection::open(path).map_err(|error| failed(&error))?;
    let changed = if parameter.is_empty() {
        store.execute(statement, [])
    } else {
        store.execute(statement, params![parameter])
    };
    match changed.map_err(|error| failed(&error))? {
        0 => Err(Failure::Broker(format!("nothing to tamper with: {statement}"))),
        _ => Ok(()),
    }
}

/// The columns of a table but one, as a list.
fn columns(path: &Path, table: &str, but: &str) -> Result<String> {
    let store = Connection::open(path).map_err(|error| failed(&error))?;
    let query = "SELECT group_concat(name, ', ') FROM pragma_table_info(?1) WHERE name <> ?2";
    let columns = store.query_row(query, params![table, but], |row| row.get::<_, String>(0));
    columns.map_err(|error| failed(&error))
}

fn find(ledgers: &[Ledger], fits: impl Fn(&Agent) -> bool) -> Result<&Agent> {
    let mut agents = ledgers.iter().flat_map(|ledger| &ledger.agents);
    let found = agents.find(|agent| fits(agent));
    found.ok_or_else(|| Failure::Broker("the load was too short: no agent fits the tampering".into()))
}
