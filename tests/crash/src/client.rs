//! A client that registers, renews, delegates, releases and revokes until the connection breaks.

use std::net::SocketAddr;

use agentwrit_protocol::wire::{LaunchTokenResponse, RegisterResponse, RenewResponse};
use agentwrit_testkit::Keys;
use agentwrit_testkit::load::agent::{SCOPE, challenge, claims, launch_request, registration};
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::{Connection, request};
use fastrand::Rng;
use serde::Deserialize;

use crate::ledger::{Agent, Doubt, End, Ledger};

/// Life of agents' tokens, seconds: longer than any run.
pub const AGENT_TTL: u32 = 7200;
/// Agents of one client that it still works with: the newest.
const IN_USE: usize = 12;

/// What every client may use.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where the broker listens.
    pub address: SocketAddr,
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
            access,
            ledger,
            random,
            keys: Keys::numbered(u64::try_from(number).unwrap_or_default()),
            task: format!("task-{number}"),
        }
    }

    /// Works until the connection breaks; returns the ledger.
    ///
    /// # Errors
    /// When the broker gives an answer that it must not give.
    pub async fn work(mut self) -> Result<Ledger> {
        let Ok(mut connection) = Connection::open(self.access.address).await else {
            return Ok(self.ledger);
        };
        loop {
            match self.step(&mut connection).await {
                Ok(()) => {}
                Err(Failure::Connection(_)) => return Ok(self.ledger),
                Err(other) => return Err(other),
            }
        }
    }

    async fn step(&mut self, connection: &mut Connection) -> Result<()> {
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
            return self.register(connection).await;
        };
        match choice {
            0..30 => self.register(connection).await,
            30..60 => self.renew(connection, index).await,
            60..75 if self.access.delegation => self.delegate(connection, index).await,
            60..85 => self.revoke(connection, index).await,
            _ => self.release(connection, index).await,
        }
    }

    /// Sends; the caller has noted the doubt, and takes it back when this returns.
    async fn send<T>(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        what: &'static str,
        status: u16,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Outcome<T>> {
        let answer = connection.send(bytes).await?;
        if answer.status == 503 {
            self.ledger.refused += 1;
            return Ok(Outcome::Refused);
        }
        if answer.status != status {
            return Err(answer.unexpected(what));
        }
        let read = read(answer.body).ok_or_else(|| answer.unexpected(what))?;
        self.ledger.confirmed += 1;
        Ok(Outcome::Confirmed(read))
    }

    async fn launch(&mut self, connection: &mut Connection) -> Result<Option<String>> {
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
        let outcome = self.send(connection, &bytes, "launch token", 201, read).await?;
        self.ledger.launches_in_doubt -= 1;
        Ok(match outcome {
            Outcome::Confirmed(made) => {
                self.ledger.launches += 1;
                Some(made.launch_token.expose().to_owned())
            }
            Outcome::Refused => None,
        })
    }

    async fn register(&mut self, connection: &mut Connection) -> Result<()> {
        let single = if self.random.bool() {
            let Some(launch) = self.launch(connection).await? else {
                return Ok(());
            };
            Some(launch)
        } else {
            None
        };
        let nonce = challenge(connection).await?;
        let launch = single.as_ref().unwrap_or(&self.access.launch);
        let bytes = request(
            "POST",
            "/v1/register",
            "",
            &registration(&self.keys, launch, &nonce, &self.task),
        );
        self.ledger.registrations_in_doubt += 1;
        let read = |body: &[u8]| serde_json::from_slice::<RegisterResponse>(body).ok();
        let outcome = self.send(connection, &bytes, "register", 200, read).await?;
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

    async fn renew(&mut self, connection: &mut Connection, index: usize) -> Result<()> {
        let token = self.begin(index, Doubt::Renewal)?.token.clone();
        let read = |body: &[u8]| serde_json::from_slice::<RenewResponse>(body).ok();
        let bytes = request("POST", "/v1/token/renew", &token, "");
        let outcome = self.send(connection, &bytes, "renew", 200, read).await?;
        let agent = self.agent(index)?;
        agent.doubt = None;
        if let Outcome::Confirmed(renewed) = outcome {
            renewed.access_token.expose().clone_into(&mut agent.token);
            agent.replaced.push(token);
            agent.renewals += 1;
        }
        Ok(())
    }

    async fn delegate(&mut self, connection: &mut Connection, index: usize) -> Result<()> {
        let agent = self.begin(index, Doubt::Delegation)?;
        let body = format!(
            r#"{{"delegate_to":"{}","scope":["{SCOPE}"],"ttl":{AGENT_TTL}}}"#,
            agent.id
        );
        let bytes = request("POST", "/v1/delegate", &agent.token, &body);
        let read = |body: &[u8]| serde_json::from_slice::<Delegated>(body).ok();
        let outcome = self.send(connection, &bytes, "delegate", 200, read).await?;
        let agent = self.agent(index)?;
        agent.doubt = None;
        if let Outcome::Confirmed(delegated) = outcome {
            agent.delegated.push(delegated.access_token);
        }
        Ok(())
    }

    async fn release(&mut self, connection: &mut Connection, index: usize) -> Result<()> {
        let agent = self.begin(index, Doubt::Release)?;
        let bytes = request("POST", "/v1/token/release", &agent.token, "");
        let outcome = self.send(connection, &bytes, "release", 204, |_| Some(())).await?;
        let agent = self.agent(index)?;
        agent.doubt = None;
        if let Outcome::Confirmed(()) = outcome {
            agent.end = Some(End::Released);
        }
        Ok(())
    }

    async fn revoke(&mut self, connection: &mut Connection, index: usize) -> Result<()> {
        let admin = self.access.admin.clone();
        let agent = self.begin(index, Doubt::Revocation)?;
        let jti = String::from(claims(&agent.token)?.jti);
        agent.revoked = Some(jti.clone());
        let body = format!(r#"{{"level":"token","target":"{jti}"}}"#);
        let bytes = request("POST", "/v1/revoke", &admin, &body);
        let outcome = self.send(connection, &bytes, "revoke", 200, |_| Some(())).await?;
        let agent = self.agent(index)?;
        agent.doubt = None;
        match outcome {
            Outcome::Confirmed(()) => agent.end = Some(End::Revoked),
            Outcome::Refused => agent.revoked = None,
        }
        Ok(())
    }
}
