//! Holds ledgers against what a restarted broker says.

use std::collections::HashSet;

use agentwrit_protocol::wire::{RenewResponse, ValidateResponse};
use agentwrit_testkit::Keys;
use agentwrit_testkit::load::agent::{challenge, registration, validation};
use agentwrit_testkit::load::failure::Result;
use agentwrit_testkit::load::http::{Connection, request};

use crate::ledger::{Agent, Doubt, End, Ledger};
use crate::trail::Trail;

/// Findings shown of one check; the rest is counted.
pub const SHOWN: usize = 20;

/// What is wrong.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// The first ones.
    pub texts: Vec<String>,
    /// All of them.
    pub count: usize,
    /// Of what was acknowledged, so much isn't there.
    pub lost: u64,
    /// So much is there that nobody asked for, or more than once.
    pub doubled: u64,
}

impl Findings {
    /// The only one.
    pub fn one(text: &str) -> Self {
        Self {
            texts: vec![text.to_owned()],
            count: 1,
            ..Self::default()
        }
    }

    /// One more.
    pub fn add(&mut self, text: String) {
        self.count += 1;
        if self.texts.len() < SHOWN {
            self.texts.push(text);
        }
    }

    /// All of these.
    pub fn add_all(&mut self, texts: Vec<String>) {
        for text in texts {
            self.add(text);
        }
    }

    fn lost(&mut self, text: String) {
        self.lost += 1;
        self.add(text);
    }

    fn doubled(&mut self, text: String) {
        self.doubled += 1;
        self.add(text);
    }

    /// Those of another check, too.
    pub fn join(&mut self, other: Self) {
        let room = SHOWN.saturating_sub(self.texts.len());
        self.texts.extend(other.texts.into_iter().take(room));
        self.count += other.count;
        self.lost += other.lost;
        self.doubled += other.doubled;
    }
}

/// Which agents to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those with which something was done since the last check.
    Touched,
    /// All.
    All,
}

/// Checks the trail against the ledgers, and each agent's tokens; what was in doubt is settled in the ledgers. Agents
/// that live are renewed once, which shows that their sessions are there.
///
/// # Errors
/// When the broker doesn't answer.
pub async fn check(
    connection: &mut Connection,
    trail: &Trail,
    ledgers: &mut [Ledger],
    which: Which,
) -> Result<Findings> {
    let mut findings = Findings::default();
    for text in trail.findings() {
        findings.add(text.clone());
    }
    strangers(trail, ledgers, &mut findings);
    launches(trail, ledgers, &mut findings);
    let agents = ledgers.iter_mut().flat_map(|ledger| ledger.agents.iter_mut());
    for agent in agents.filter(|agent| which == Which::All || agent.touched) {
        settle(trail, agent);
        events(trail, agent, &mut findings);
        tokens(connection, agent, &mut findings).await?;
        launch(connection, agent, &mut findings).await?;
        agent.touched = false;
        if agent.lives() && (which == Which::All || !agent.proven) {
            renew(connection, agent, &mut findings).await?;
        }
    }
    Ok(findings)
}

/// Agents that nobody knows can only come from registrations that were under way.
fn strangers(trail: &Trail, ledgers: &[Ledger], findings: &mut Findings) {
    let known: HashSet<&str> = ledgers
        .iter()
        .flat_map(|ledger| ledger.agents.iter().map(|agent| agent.id.as_str()))
        .collect();
    let in_doubt: u64 = ledgers.iter().map(|ledger| ledger.registrations_in_doubt).sum();
    let mut strangers = 0_u64;
    for stranger in trail.agents("agent_registered").filter(|agent| !known.contains(agent)) {
        strangers += 1;
        exactly(trail, "agent_registered", stranger, 1, findings);
        exactly(trail, "token_issued", stranger, 1, findings);
    }
    if strangers > in_doubt {
        findings.doubled(format!(
            "{strangers} unknown agents, but only {in_doubt} registrations were in doubt"
        ));
    }
    let (registered, issued) = (trail.total("agent_registered"), trail.total("token_issued"));
    if registered != issued {
        findings.add(format!("{registered} agent_registered, but {issued} token_issued"));
    }
}

fn launches(trail: &Trail, ledgers: &[Ledger], findings: &mut Findings) {
    // The launch token for many is not in the ledgers.
    let confirmed: u64 = 1 + ledgers.iter().map(|ledger| ledger.launches).sum::<u64>();
    let in_doubt: u64 = ledgers.iter().map(|ledger| ledger.launches_in_doubt).sum();
    let there = trail.total("launch_token_issued");
    let text = || format!("{there} launch_token_issued for {confirmed} confirmed and {in_doubt} in doubt");
    if there < confirmed {
        findings.lost(text());
    } else if there > confirmed + in_doubt {
        findings.doubled(text());
    }
}

fn exactly(trail: &Trail, event_type: &str, agent: &str, wanted: u64, findings: &mut Findings) {
    let there = trail.count(event_type, agent);
    let text = || format!("{event_type} for {agent}: {there} events, not {wanted}");
    if there < wanted {
        findings.lost(text());
    } else if there > wanted {
        findings.doubled(text());
    }
}

/// Whether what was in doubt has happened: as the trail says. The tokens must then agree.
fn settle(trail: &Trail, agent: &mut Agent) {
    let Some(doubt) = agent.doubt.take() else { return };
    match doubt {
        Doubt::Renewal => {
            if trail.count("token_renewed", &agent.id) == agent.renewals + 1 {
                agent.renewals += 1;
                agent.end = Some(End::Lost);
            }
        }
        Doubt::Release => {
            if trail.count("token_released", &agent.id) == 1 {
                agent.end = Some(End::Released);
            }
        }
        Doubt::Revocation => {
            let jti = agent.revoked.clone().unwrap_or_default();
            if trail.count("token_revoked", &jti) == 1 {
                agent.end = Some(End::Revoked);
            } else {
                agent.revoked = None;
            }
        }
        Doubt::Delegation => {
            let confirmed = u64::try_from(agent.delegated.len()).unwrap_or_default();
            if trail.count("delegation_created", &agent.id) == confirmed + 1 {
                // Committed, but never answered: nobody has the token.
                agent.delegated.push(String::new());
            }
        }
    }
}

fn events(trail: &Trail, agent: &Agent, findings: &mut Findings) {
    exactly(trail, "agent_registered", &agent.id, 1, findings);
    exactly(trail, "token_issued", &agent.id, 1, findings);
    exactly(trail, "token_renewed", &agent.id, agent.renewals, findings);
    let released = u64::from(agent.end == Some(End::Released));
    exactly(trail, "token_released", &agent.id, released, findings);
    let delegated = u64::try_from(agent.delegated.len()).unwrap_or_default();
    exactly(trail, "delegation_created", &agent.id, delegated, findings);
    if let Some(jti) = &agent.revoked {
        exactly(trail, "token_revoked", jti, 1, findings);
    }
}

async fn stands(connection: &mut Connection, token: &str) -> Result<bool> {
    let answer: ValidateResponse = connection.send(&validation(token)).await?.expect("validate", 200)?;
    Ok(answer.valid)
}

async fn tokens(connection: &mut Connection, agent: &Agent, findings: &mut Findings) -> Result<()> {
    match (agent.end, stands(connection, &agent.token).await?) {
        (None, false) => findings.lost(format!("the token of {} is refused, but nothing ended it", agent.id)),
        (Some(end), true) => findings.lost(format!("the token of {} stands, but it was {end:?}", agent.id)),
        (None, true) | (Some(_), false) => {}
    }
    for token in &agent.replaced {
        if stands(connection, token).await? {
            findings.lost(format!("a token of {} stands, but a renewal replaced it", agent.id));
        }
    }
    let ended = matches!(agent.end, Some(End::Released | End::Revoked));
    for token in agent.delegated.iter().filter(|token| !token.is_empty()) {
        let stands = stands(connection, token).await?;
        if stands == ended {
            let text = if stands { "stands after its end" } else { "is refused" };
            findings.add(format!("a token delegated by {} {text}", agent.id));
        }
    }
    Ok(())
}

/// A single-use launch token that was used up stays used up.
async fn launch(connection: &mut Connection, agent: &mut Agent, findings: &mut Findings) -> Result<()> {
    let Some(launch) = agent.launch.take() else {
        return Ok(());
    };
    let nonce = challenge(connection).await?;
    let body = registration(&Keys::numbered(u64::MAX), &launch, &nonce, "again");
    let answer = connection.send(&request("POST", "/v1/register", "", &body)).await?;
    if answer.status != 401 || !String::from_utf8_lossy(answer.body).contains("launch token already consumed") {
        findings.lost(format!(
            "the launch token of {}: {}",
            agent.id,
            answer.unexpected("second use")
        ));
    }
    Ok(())
}

async fn renew(connection: &mut Connection, agent: &mut Agent, findings: &mut Findings) -> Result<()> {
    let answer = connection
        .send(&request("POST", "/v1/token/renew", &agent.token, ""))
        .await?;
    match answer.expect::<RenewResponse>("renewal after the restart", 200) {
        Ok(renewed) => {
            let renewed = renewed.access_token.expose().to_owned();
            agent.replaced.push(std::mem::replace(&mut agent.token, renewed));
            agent.renewals += 1;
            // Its event is looked at after the next restart.
            (agent.touched, agent.proven) = (true, true);
        }
        Err(error) => findings.lost(format!("{}: {error}", agent.id)),
    }
    Ok(())
}
