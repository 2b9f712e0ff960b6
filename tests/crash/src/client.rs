//! A client that registers, renews, delegates, releases and revokes until the connection breaks, or it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agentwrit_protocol::wire::{ChallengeResponse, LaunchTokenResponse, RegisterResponse, RenewResponse};
use agentwrit_testkit::Keys;
use agentwrit_testkit::load::agent::{SCOPE, claims, launch_request, registration};
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::request;
use fastrand::Rng;
use serde::Deserialize;

use crate::ledger::{Agent, Doubt, End, Ledger};
use crate::line::{Line, Manner};

/// Life of agents' tokens, seconds: longer than any run.
pub const AGENT_TTL: u32 = 7200;
/// Agents of one client that it still works with: the newest.
const IN_USE: usize = 12;
/// After a 503: as long as nothing can be done, nothing is asked for without end.
const PAUSE: Duration = Duration::from_millis(20);

/// What every client may use.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where the broker listens: the one, or each replica.
    pub addresses: Vec<SocketAddr>,
    /// What a broken connection means.
    pub manner: Manner,
    /// Ends the clients.
    pub stop: Arc<AtomicBool>,
    /// Answers 503 and broken connections of all clients, while they work.
    pub felt: Arc<AtomicU64>,
    /// Admin token.
    pub admin: String,
    /// App token, on brokers that have apps.
    pub app: Option<String>,
    /// Launch token for any number of registrations.
    pub launch: String,
    /// Whether there is a delegation endpoint.
    pub delegation: bool,
}

#[derive(Deserialize)]
struct Delegated {
    access_token: String,
}

/// One client at work.
pub struct Client {
    access: Access,
    line: Line,
    ledger: Ledger,
    random: Rng,
    keys: Keys,
    task: String,
}

enum Outcome<T> {
    Confirmed(T),
    /// 503: nothing changed.
    Refused,
}

impl Client {
    /// Goes on with a ledger.
    pub fn new(number: usize, access: Access, ledger: Ledger, random: Rng) -> Self {
        Self {
            line: Line::new(&access.addresses, number, access.manner).counted_in(&access.felt),
            access,
            ledger,
            random,
            keys: Keys::numbered(u64::try_from(number).unwrap_or_default()),
            task: format!("task-{number}"),
        }
    }

    /// Works until it is told to stop, or the connection breaks and that ends it; returns the ledger.
    ///
    /// # Errors
    /// When the broker gives an answer that it must not give.
    pub async fn work(mut self) -> Result<Ledger> {
        while !self.access.stop.load(Ordering::SeqCst) {
            match self.step().await {
                Ok(()) => {}
                Err(Failure::Connection(_)) if self.access.manner == Manner::Ends => break,
                Err(Failure::Connection(_)) if self.access.manner == Manner::Doubts => {}
                Err(other) => return Err(other),
            }
        }
        self.ledger.heard(self.line.counts);
        Ok(self.ledger)
    }

    async fn step(&mut self) -> Result<()> {
        let first = self.ledger.agents.len().saturating_sub(IN_USE);
        let living: Vec<usize> = self
            .ledger
            .agents
            .iter()
            .enumerate()
            .skip(first)
            .filter_map(|(index, agent)| agent.lives().then_some(index))
            .collect();
        let choice = self.random.usize(..100);
        let Some(index) = self.random.choice(living) else {
            return self.register().await;
        };
        match choice {
            0..30 => self.register().await,
            30..60 => self.renew(index).await,
            60..75 if self.access.delegation => self.delegate(index).await,
            60..85 => self.revoke(index).await,
            _ => self.release(index).await,
        }
    }

    /// Sends; the caller has noted the doubt, and takes it back when this returns.
    async fn send<T>(
        &mut self,
        bytes: &[u8],
        what: &'static str,
        status: u16,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Outcome<T>> {
        let reply = self.line.send(bytes).await?;
        if reply.status == 503 {
            self.ledger.refused += 1;
            tokio::time::sleep(PAUSE).await;
            if reply.is_in_doubt() {
                return Err(Failure::Connection("the broker doesn't know".to_owned()));
            }
            return Ok(Outcome::Refused);
        }
        if reply.status != status {
            return Err(reply.unexpected(what));
        }
        let read = read(&reply.body).ok_or_else(|| reply.unexpected(what))?;
        self.ledger.confirmed += 1;
        Ok(Outcome::Confirmed(read))
    }

    async fn launch(&mut self) -> Result<Option<String>> {
        let bytes = match &self.access.app {
            Some(app) if self.random.bool() => {
                let body =
                    format!(r#"{{"agent_name":"load","allowed_scope":["{SCOPE}"],"max_ttl":{AGENT_TTL},"ttl":3600}}"#);
                request("POST", "/v1/app/launch-tokens", app, &body)
            }
            _ => launch_request(&self.access.admin, true, AGENT_TTL),
        };
        self.ledger.launches_in_doubt += 1;
        let read = |body: &[u8]| serde_json::from_slice::<LaunchTokenResponse>(body).ok();
        let outcome = self.send(&bytes, "launch token", 201, read).await?;
        self.ledger.launches_in_doubt -= 1;
        Ok(match outcome {
            Outcome::Confirmed(made) => {
                self.ledger.launches += 1;
                Some(made.launch_token.expose().to_owned())
            }
            Outcome::Refused => None,
        })
    }

    async fn register(&mut self) -> Result<()> {
        let single = if self.random.bool() {
            let Some(launch) = self.launch().await? else {
                return Ok(());
            };
            Some(launch)
        } else {
            None
        };
        let nonce = self.line.send(&request("GET", "/v1/challenge", "", "")).await?;
        if nonce.status == 503 {
            return Ok(());
        }
        let nonce = nonce.expect::<ChallengeResponse>("challenge", 200)?.nonce;
        let launch = single.as_ref().unwrap_or(&self.access.launch);
        let bytes = request(
            "POST",
            "/v1/register",
            "",
            &registration(&self.keys, launch, &nonce, &self.task),
        );
        self.ledger.registrations_in_doubt += 1;
        let read = |body: &[u8]| serde_json::from_slice::<RegisterResponse>(body).ok();
        let outcome = self.send(&bytes, "register", 200, read).await?;
        self.ledger.registrations_in_doubt -= 1;
        if let Outcome::Confirmed(registered) = outcome {
            let token = registered.access_token.expose().to_owned();
            self.ledger.agents.push(Agent::new(registered.agent_id, token, single));
        }
        Ok(())
    }

    fn agent(&mut self, index: usize) -> Result<&mut Agent> {
        let agent = self.ledger.agents.get_mut(index);
        let agent = agent.ok_or_else(|| Failure::Broker(format!("no agent {index} in the ledger")))?;
        (agent.touched, agent.proven) = (true, false);
        Ok(agent)
    }

    fn begin(&mut self, index: usize, doubt: Doubt) -> Result<&mut Agent> {
        let agent = self.agent(index)?;
        agent.doubt = Some(doubt);
        Ok(agent)
    }

    async fn renew(&mut self, index: usize) -> Result<()> {
        let token = self.begin(index, Doubt::Renewal)?.token.clone();
        let read = |body: &[u8]| serde_json::from_slice::<RenewResponse>(body).ok();
        let bytes = request("POST", "/v1/token/renew", &token, "");
        let outcome = self.send(&bytes, "renew", 200, read).await?;
        let agent = self.agent(index)?;
        agent.doubt = None;
        if let Outcome::Confirmed(renewed) = outcome {
            renewed.access_token.expose().clone_into(&mut agent.token);
            agent.replaced.push(token);
            agent.renewals += 1;
        }
        Ok(())
    }

    async fn delegate(&mut self, index: usize) -> Result<()> {
        let agent = self.begin(index, Doubt::Delegation)?;
        let body = format!(
            r#"{{"delegate_to":"{}","scope":["{SCOPE}"],"ttl":{AGENT_TTL}}}"#,
            agent.id
        );
        let bytes = request("POST", "/v1/delegate", &agent.token, &body);
        let read = |body: &[u8]| serde_json::from_slice::<Delegated>(body).ok();
        let outcome = self.send(&bytes, "delegate", 200, read).await?;
        let agent = self.agent(index)?;
        agent.doubt = None;
        if let Outcome::Confirmed(delegated) = outcome {
            agent.delegated.push(delegated.access_token);
        }
        Ok(())
    }

    async fn release(&mut self, index: usize) -> Result<()> {
        let agent = self.begin(index, Doubt::Release)?;
        let bytes = request("POST", "/v1/token/release", &agent.token, "");
        let outcome = self.send(&bytes, "release", 204, |_| Some(())).await?;
        let agent = self.agent(index)?;
        agent.doubt = None;
        if let Outcome::Confirmed(()) = outcome {
            agent.end = Some(End::Released);
        }
        Ok(())
    }

    async fn revoke(&mut self, index: usize) -> Result<()> {
        let admin = self.access.admin.clone();
        let agent = self.begin(index, Doubt::Revocation)?;
        let jti = String::from(claims(&agent.token)?.jti);
        agent.revoked = Some(jti.clone());
        let body = format!(r#"{{"level":"token","target":"{jti}"}}"#);
        let bytes = request("POST", "/v1/revoke", &admin, &body);
        let outcome = self.send(&bytes, "revoke", 200, |_| Some(())).await?;
        let agent = self.agent(index)?;
        agent.doubt = None;
        match outcome {
            Outcome::Confirmed(()) => agent.end = Some(End::Revoked),
            Outcome::Refused => agent.revoked = None,
        }
        Ok(())
    }
}
