//! What the broker has confirmed to one client, and what was under way when it died.

use std::time::Duration;

use crate::line::Counts;

/// How an agent's authority ended, as confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The agent gave its token back.
    Released,
    /// An admin revoked its token.
    Revoked,
    /// Its renewal was committed but never answered: nobody has the new token.
    Lost,
}

/// What was sent and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// A renewal.
    Renewal,
    /// A release.
    Release,
    /// A revocation.
    Revocation,
    /// A delegation by this agent to itself.
    Delegation,
}

/// A registered agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// SPIFFE id.
    pub id: String,
    /// Its current token.
    pub token: String,
    /// Tokens that renewals have replaced.
    pub replaced: Vec<String>,
    /// Renewals confirmed.
    pub renewals: u64,
    /// Tokens that it has delegated.
    pub delegated: Vec<String>,
    /// jti that a confirmed or doubtful revocation named.
    pub revoked: Option<String>,
    /// The end, if there was one.
    pub end: Option<End>,
    /// What is under way.
    pub doubt: Option<Doubt>,
    /// The single-use launch token that its registration used up.
    pub launch: Option<String>,
    /// Whether anything was done with it since the last check.
    pub touched: bool,
    /// Whether a renewal after a restart has shown that its session is there.
    pub proven: bool,
}

impl Agent {
    /// One that has just registered.
    pub fn new(id: String, token: String, launch: Option<String>) -> Self {
        Self {
            id,
            token,
            replaced: vec![],
            renewals: 0,
            delegated: vec![],
            revoked: None,
            end: None,
            doubt: None,
            launch,
            touched: true,
            proven: false,
        }
    }

    /// Whether its token should stand and nothing is under way.
    pub fn lives(&self) -> bool {
        self.end.is_none() && self.doubt.is_none()
    }
}

/// Everything of one client.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Its agents, oldest first.
    pub agents: Vec<Agent>,
    /// Launch tokens confirmed.
    pub launches: u64,
    /// Launch tokens under way when the broker died.
    pub launches_in_doubt: u64,
    /// Registrations under way when the broker died: their agents' ids are unknown.
    pub registrations_in_doubt: u64,
    /// Operations confirmed.
    pub confirmed: u64,
    /// Answers 503: nothing changed, says the contract.
    pub refused: u64,
    /// Connections that broke under a request.
    pub broken: u64,
    /// What the slowest answer took.
    pub slowest: Duration,
}

impl Ledger {
    /// Takes down what a client has heard.
    pub fn heard(&mut self, counts: Counts) {
        self.broken += counts.broken;
        self.slowest = self.slowest.max(counts.slowest);
    }

    /// Operations that were under way when the broker died, and are not settled yet; registrations and launch tokens
    /// never are.
    pub fn in_doubt(&self) -> u64 {
        let agents = self.agents.iter().filter(|agent| agent.doubt.is_some()).count();
        self.launches_in_doubt + self.registrations_in_doubt + u64::try_from(agents).unwrap_or_default()
    }
}
