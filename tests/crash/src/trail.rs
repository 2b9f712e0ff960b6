//! The audit trail as anybody can read and check it, with nothing of the broker's own code.

use std::collections::HashMap;

use agentwrit_testkit::load::failure::Result;
use agentwrit_testkit::load::http::{Connection, request};
use serde::Deserialize;
use sha2::{Digest, Sha256};

const PAGE: usize = 1000;

/// An event as on the wire (`docs/wire-contract.md` §15.1); what is absent there is empty here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Event {
    id: String,
    timestamp: String,
    #[serde(rename = "event_type")]
    kind: String,
    agent_id: String,
    task_id: String,
    orch_id: String,
    detail: String,
    resource: String,
    outcome: String,
    deleg_depth: i64,
    deleg_chain_hash: String,
    bytes_transferred: i64,
    hash: String,
    prev_hash: String,
}

impl Event {
    /// `docs/wire-contract.md` §15.2.
    fn computed_hash(&self) -> String {
        let text = format!(
            "{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}",
            self.prev_hash,
            self.id,
            self.timestamp,
            self.kind,
            self.agent_id,
            self.task_id,
            self.orch_id,
            self.detail,
            self.resource,
            self.outcome,
            self.deleg_depth,
            self.deleg_chain_hash,
            self.bytes_transferred
        );
        hex::encode(Sha256::digest(text.as_bytes()))
    }
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Event>,
    total: usize,
}

/// The trail: how often each type of event is there for each agent id, and what is wrong with the chain.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    counts: HashMap<(String, String), u64>,
    totals: HashMap<String, u64>,
    hashes: Vec<String>,
    findings: Vec<String>,
}

impl Trail {
    /// Reads on from where it ended, to the end. Everything, for a new one.
    ///
    /// # Errors
    /// When the broker doesn't answer a query.
    pub async fn read(&mut self, connection: &mut Connection, admin: &str) -> Result<()> {
        loop {
            let path = format!("/v1/audit/events?limit={PAGE}&offset={}", self.hashes.len());
            let page: Page = connection
                .send(&request("GET", &path, admin, ""))
                .await?
                .expect("audit query", 200)?;
            let count = page.events.len();
            for event in page.events {
                self.add(event);
            }
            if count < PAGE {
                if page.total != self.hashes.len() {
                    let text = format!("total is {}, but {} events are there", page.total, self.hashes.len());
                    self.findings.push(text);
                }
                return Ok(());
            }
        }
    }

    fn add(&mut self, event: Event) {
        let wanted = format!("evt-{:06}", self.hashes.len() + 1);
        if event.id != wanted {
            self.findings
                .push(format!("event {} stands where {wanted} should", event.id));
        }
        let genesis = "0".repeat(64);
        if event.prev_hash != *self.hashes.last().unwrap_or(&genesis) {
            self.findings
                .push(format!("event {}: prev_hash is not the hash before it", event.id));
        }
        if event.hash != event.computed_hash() {
            self.findings
                .push(format!("event {}: hash is not that of its content", event.id));
        }
        self.hashes.push(event.hash);
        *self.totals.entry(event.kind.clone()).or_default() += 1;
        *self.counts.entry((event.kind, event.agent_id)).or_default() += 1;
    }

    /// What is wrong with it.
    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    /// Events so far.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Events of a type for an agent id.
    pub fn count(&self, event_type: &str, agent_id: &str) -> u64 {
        let key = (event_type.to_owned(), agent_id.to_owned());
        self.counts.get(&key).copied().unwrap_or_default()
    }

    /// Events of a type.
    pub fn total(&self, event_type: &str) -> u64 {
        self.totals.get(event_type).copied().unwrap_or_default()
    }

    /// Agent ids that have events of a type.
    pub fn agents<'a>(&'a self, event_type: &'a str) -> impl Iterator<Item = &'a str> {
        self.counts
            .keys()
            .filter(move |(kind, _)| kind == event_type)
            .map(|(_, agent)| agent.as_str())
    }

    /// How many events two trails have in common, from the first one on.
    pub fn common(&self, other: &Self) -> usize {
        let pairs = self.hashes.iter().zip(&other.hashes);
        pairs.take_while(|(one, another)| one == another).count()
    }

    /// Says where another reading of the same trail differs.
    pub fn differs(&self, later: &Self) -> Option<String> {
        let pairs = self.hashes.iter().zip(&later.hashes);
        if let Some(at) = pairs.into_iter().position(|(before, after)| before != after) {
            return Some(format!("event {} has changed since it was first read", at + 1));
        }
        (later.len() < self.len()).then(|| format!("{} events are left of {}", later.len(), self.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize, prev_hash: &str) -> Event {
        let mut event = Event {
            id: format!("evt-{number:06}"),
            timestamp: "2026-01-02T03:04:05Z".into(),
            kind: "token_issued".into(),
            agent_id: "a".into(),
            prev_hash: prev_hash.into(),
            ..Event::default()
        };
        event.hash = event.computed_hash();
        event
    }

    fn trail(events: Vec<Event>) -> Trail {
        let mut trail = Trail::default();
        for event in events {
            trail.add(event);
        }
        trail
    }

    #[test]
    fn a_good_chain_has_no_findings_and_every_break_is_found() {
        let first = event(1, &"0".repeat(64));
        let second = event(2, &first.hash);
        let good = trail(vec![first.clone(), second.clone()]);
        assert!(good.findings().is_empty(), "{:?}", good.findings());
        assert_eq!((good.count("token_issued", "a"), good.total("token_issued")), (2, 2));
        let changed = Event {
            detail: "x".into(),
            ..second.clone()
        };
        for broken in [
            vec![second.clone()],
            vec![first.clone(), first.clone()],
            vec![first.clone(), changed],
            vec![first.clone(), event(3, &first.hash)],
            vec![first.clone(), event(2, "y")],
        ] {
            assert!(!trail(broken.clone()).findings().is_empty(), "{broken:?}");
        }
        assert!(good.differs(&good).is_none());
        assert_eq!((good.common(&good), good.common(&Trail::default())), (2, 0));
        assert_eq!(good.common(&trail(vec![first.clone(), event(3, &first.hash)])), 1);
        assert!(good.differs(&trail(vec![first.clone()])).is_some());
        assert!(good.differs(&trail(vec![second, first])).is_some());
    }

    #[test]
    fn the_hash_covers_13_values_with_0_for_absent_numbers() {
        // By `printf ... | sha256sum`.
        let event = event(1, "p");
        let text = "p|evt-000001|2026-01-02T03:04:05Z|token_issued|a||||||0||0";
        assert_eq!(event.hash, hex::encode(Sha256::digest(text.as_bytes())));
    }
}
