//! What must hold after a copy was put back, of whatever store.

use agentwrit_protocol::wire::ValidateResponse;
use agentwrit_testkit::Keys;
use agentwrit_testkit::load::agent::{self, challenge, registration, validation};
use agentwrit_testkit::load::failure::Result;
use agentwrit_testkit::load::http::{Connection, request};

use crate::client::AGENT_TTL;
use crate::ledger::Ledger;

/// Agents that register afterwards.
const NEW: usize = 40;

/// Authority of before.
#[derive(Debug, Clone)]
pub struct Before {
    /// Every token.
    pub tokens: Vec<String>,
    /// Every launch token.
    pub launches: Vec<String>,
    /// Of the tokens, those that stood.
    pub current: Vec<String>,
}

impl Before {
    /// What people and clients hold.
    pub fn of(admin: &str, launch: &str, ledgers: &[Ledger]) -> Self {
        let mut before = Self {
            tokens: vec![admin.to_owned()],
            launches: vec![launch.to_owned()],
            current: Vec::new(),
        };
        for agent in ledgers.iter().flat_map(|ledger| &ledger.agents) {
            before.tokens.push(agent.token.clone());
            let others = agent.replaced.iter().chain(&agent.delegated);
            before.tokens.extend(others.filter(|token| !token.is_empty()).cloned());
            before.launches.extend(agent.launch.clone());
            before.current.extend(agent.lives().then(|| agent.token.clone()));
        }
        before
    }

    /// No token and no launch token of before is good for anything.
    ///
    /// # Errors
    /// When the broker doesn't answer.
    pub async fn counts_nowhere(&self, connection: &mut Connection, findings: &mut Vec<String>) -> Result<()> {
        let (tokens, launches, current) = (self.tokens.len(), self.launches.len(), self.current.len());
        if tokens < 100 || launches < 10 || current < 10 {
            findings.push(format!(
                "too few to prove anything: {tokens} tokens, of which {current} stood, and {launches} launch tokens"
            ));
        }
        for token in &self.tokens {
            let answer: ValidateResponse = connection.send(&validation(token)).await?.expect("validate", 200)?;
            if answer.valid {
                findings.push("a token of before stands".to_owned());
            }
        }
        for token in &self.current {
            let renewal = request("POST", "/v1/token/renew", token, "");
            let status = connection.send(&renewal).await?.status;
            if status != 401 {
                findings.push(format!("a token of before is renewed: {status}"));
            }
        }
        let keys = Keys::default();
        for launch in &self.launches {
            let nonce = challenge(connection).await?;
            let body = registration(&keys, launch, &nonce, "task-again");
            let asked = request("POST", "/v1/register", "", &body);
            let status = connection.send(&asked).await?.status;
            if status != 401 {
                findings.push(format!("a launch token of before is good: {status}"));
            }
        }
        Ok(())
    }
}

/// Agents register again, and their tokens are good.
///
/// # Errors
/// When the broker doesn't let them.
pub async fn new_agents(connection: &mut Connection, admin: &str, findings: &mut Vec<String>) -> Result<()> {
    let launch = agent::launch(connection, admin, false, AGENT_TTL).await?;
    for number in 0..NEW {
        let keys = Keys::numbered(u64::try_from(number).unwrap_or_default());
        let registered = agent::register(connection, &keys, &launch, "task-new").await?;
        let token = registered.access_token.expose();
        let renewal = request("POST", "/v1/token/renew", token, "");
        let renewed = connection.send(&renewal).await?.status;
        if renewed != 200 {
            findings.push(format!("a new agent's token is not renewed: {renewed}"));
        }
    }
    Ok(())
}
