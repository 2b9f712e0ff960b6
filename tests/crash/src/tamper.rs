//! Losses made on purpose, on copies of a store: the check must find each.
//!
//! This is the one place here that knows the broker's schema.

use agentwrit_testkit::load::agent::claims;
use agentwrit_testkit::load::failure::{Failure, Result};

use crate::ledger::{Agent, End, Ledger};
use crate::run::NOT_OPEN;
use crate::store::Store;

/// One loss.
pub struct Tamper {
    /// Its name, also of the folder.
    pub name: &'static str,
    /// Makes it, in this store.
    pub apply: fn(&Store, &[Ledger]) -> Result<()>,
    /// One of the findings must say one of these.
    pub found: &'static [&'static str],
}

/// All of them.
pub const TAMPERS: &[Tamper] = &[
    Tamper {
        name: "events-cut-off",
        apply: |store, _| {
            change(
                store,
                "DELETE FROM audit_events WHERE seq > (SELECT max(seq) - 5 FROM audit_events)",
                "",
            )
        },
        found: &["events, not 1", NOT_OPEN],
    },
    Tamper {
        name: "event-missing",
        apply: |store, _| {
            change(
                store,
                "DELETE FROM audit_events WHERE seq = (SELECT max(seq) / 2 FROM audit_events)",
                "",
            )
        },
        found: &["stands where", NOT_OPEN],
    },
    Tamper {
        name: "event-changed",
        apply: |store, _| {
            let change_detail = "UPDATE audit_events SET json = replace(json, '\"detail\":\"', '\"detail\":\"x') \
                WHERE seq = (SELECT max(seq) / 2 FROM audit_events)";
            change(store, change_detail, "")
        },
        found: &["hash is not that of its content", NOT_OPEN],
    },
    Tamper {
        name: "event-twice",
        apply: |store, _| {
            let columns = store.columns("audit_events", "seq")?;
            let copy = format!(
                "INSERT INTO audit_events (seq, {columns}) SELECT seq + 1, {columns} FROM audit_events \
                 ORDER BY seq DESC LIMIT 1"
            );
            change(store, &copy, "")
        },
        found: &["stands where", NOT_OPEN],
    },
    Tamper {
        name: "registration-lost",
        apply: |store, ledgers| {
            let agent = find(ledgers, Agent::lives)?;
            change(store, "DELETE FROM sessions WHERE sid = {}", &claims(&agent.token)?.sid)
        },
        found: &["renewal after the restart"],
    },
    Tamper {
        name: "release-lost",
        apply: |store, ledgers| {
            let agent = find(ledgers, |agent| agent.end == Some(End::Released))?;
            let stand = "UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE sid = {}";
            change(store, stand, &claims(&agent.token)?.sid)
        },
        found: &["stands, but it was Released"],
    },
    Tamper {
        name: "revocation-lost",
        apply: |store, ledgers| {
            let agent = find(ledgers, |agent| agent.end == Some(End::Revoked))?;
            let claims = claims(&agent.token)?;
            change(store, "DELETE FROM revocations WHERE target = {}", &claims.jti)?;
            let stand = "UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE sid = {}";
            change(store, stand, &claims.sid)
        },
        found: &["stands, but it was Revoked"],
    },
    Tamper {
        name: "renewal-lost",
        apply: |store, ledgers| {
            let agent = find(ledgers, |agent| agent.lives() && !agent.replaced.is_empty())?;
            let replaced = agent.replaced.last().map(String::as_str).unwrap_or_default();
            let forget = "UPDATE sessions SET prev_jti = NULL, prev_until = NULL, prev_exp = NULL WHERE prev_jti = {}";
            change(store, forget, &claims(replaced)?.jti)
        },
        found: &["stands, but a renewal replaced it"],
    },
];

/// Runs a statement that must change something; the parameter goes where `{}` stands.
fn change(store: &Store, statement: &str, parameter: &str) -> Result<()> {
    match store.change(&statement.replace("{}", &format!("'{parameter}'")))? {
        0 => Err(Failure::Broker(format!("nothing to tamper with: {statement}"))),
        _ => Ok(()),
    }
}

fn find(ledgers: &[Ledger], fits: impl Fn(&Agent) -> bool) -> Result<&Agent> {
    let mut agents = ledgers.iter().flat_map(|ledger| &ledger.agents);
    let found = agents.find(|agent| fits(agent));
    found.ok_or_else(|| Failure::Broker("the load was too short: no agent fits the tampering".into()))
}
