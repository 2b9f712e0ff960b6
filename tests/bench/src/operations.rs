//! The operations that are measured: what one client does, again and again.

use std::sync::Arc;

use agentwrit_protocol::wire::{LaunchTokenResponse, RenewResponse};
use agentwrit_testkit::Keys;
use agentwrit_testkit::load::agent::{self, SCOPE, claims};
use agentwrit_testkit::load::failure::Result;
use agentwrit_testkit::load::http::{Connection, request};

use crate::measure::{Load, Step};
use crate::prepare::{Countdown, World};

fn keys(number: usize) -> Keys {
    Keys::numbered(u64::try_from(number).unwrap_or_default())
}

/// Challenge and registration.
pub struct Register {
    connection: Connection,
    keys: Keys,
    launch: String,
    task: String,
    left: Option<Countdown>,
}

impl Register {
    /// A client with a key and a task of its own.
    ///
    /// # Errors
    /// When the broker doesn't listen.
    pub async fn new(world: &World, number: usize) -> Result<Self> {
        Ok(Self {
            connection: world.connect().await?,
            keys: keys(number),
            launch: world.launch.clone(),
            task: format!("task-{number}"),
            left: None,
        })
    }

    /// The same, until the count is down.
    #[must_use]
    pub fn until(mut self, left: &Countdown) -> Self {
        self.left = Some(left.clone());
        self
    }
}

impl Load for Register {
    async fn once(&mut self) -> Result<Step> {
        if self.left.as_ref().is_some_and(|left| left.take().is_none()) {
            return Ok(Step::Exhausted);
        }
        agent::register(&mut self.connection, &self.keys, &self.launch, &self.task).await?;
        Ok(Step::Done)
    }
}

/// A single-use launch token, challenge and registration.
pub struct LaunchAndRegister {
    connection: Connection,
    keys: Keys,
    launch: Vec<u8>,
    task: String,
}

impl LaunchAndRegister {
    /// A client with a key and a task of its own.
    ///
    /// # Errors
    /// When the broker doesn't listen.
    pub async fn new(world: &World, number: usize) -> Result<Self> {
        Ok(Self {
            connection: world.connect().await?,
            keys: keys(number),
            launch: agent::launch_request(&world.admin, true, 3600),
            task: format!("task-{number}"),
        })
    }
}

impl Load for LaunchAndRegister {
    async fn once(&mut self) -> Result<Step> {
        let made: LaunchTokenResponse = self.connection.send(&self.launch).await?.expect("launch token", 201)?;
        let launch = made.launch_token.expose();
        agent::register(&mut self.connection, &self.keys, launch, &self.task).await?;
        Ok(Step::Done)
    }
}

/// Renewal of the client's own token.
pub struct Renew {
    connection: Connection,
    token: String,
}

impl Renew {
    /// A client that has registered.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn new(world: &World, number: usize) -> Result<Self> {
        let mut connection = world.connect().await?;
        let registered = agent::register(&mut connection, &keys(number), &world.launch, "renew").await?;
        let token = registered.access_token.expose().to_owned();
        Ok(Self { connection, token })
    }
}

impl Load for Renew {
    async fn once(&mut self) -> Result<Step> {
        let request = request("POST", "/v1/token/renew", &self.token, "");
        let renewed: RenewResponse = self.connection.send(&request).await?.expect("renew", 200)?;
        renewed.access_token.expose().clone_into(&mut self.token);
        Ok(Step::Done)
    }
}

/// The same request again and again, or one after the other of a list that clients share.
pub struct Repeat {
    connection: Connection,
    what: &'static str,
    status: u16,
    /// The answer must hold this text near its start; empty for any.
    proof: &'static str,
    requests: Arc<Vec<Vec<u8>>>,
    next: Next,
}

enum Next {
    Once(Countdown),
    Round(usize),
}

impl Repeat {
    /// Sends each request once, then is exhausted.
    pub fn once_each(
        connection: Connection,
        what: &'static str,
        requests: &Arc<Vec<Vec<u8>>>,
        left: &Countdown,
    ) -> Self {
        Self {
            connection,
            what,
            status: 200,
            proof: "",
            requests: Arc::clone(requests),
            next: Next::Once(left.clone()),
        }
    }

    /// Sends the requests in rotation, starting at this one.
    pub fn rotate(connection: Connection, what: &'static str, requests: &Arc<Vec<Vec<u8>>>, first: usize) -> Self {
        Self {
            connection,
            what,
            status: 200,
            proof: "",
            requests: Arc::clone(requests),
            next: Next::Round(first),
        }
    }

    /// The same, with proof that an answer is the right one.
    #[must_use]
    pub fn with_proof(mut self, proof: &'static str) -> Self {
        self.proof = proof;
        self
    }
}

impl Load for Repeat {
    async fn once(&mut self) -> Result<Step> {
        let index = match &mut self.next {
            Next::Once(left) => match left.take() {
                Some(index) => index,
                None => return Ok(Step::Exhausted),
            },
            Next::Round(next) => {
                *next = (*next + 1) % self.requests.len().max(1);
                *next
            }
        };
        let Some(request) = self.requests.get(index) else {
            return Ok(Step::Exhausted);
        };
        let answer = self.connection.send(request).await?;
        if answer.status != self.status || !starts_with(answer.body, self.proof) {
            return Err(answer.unexpected(self.what));
        }
        Ok(Step::Done)
    }
}

fn starts_with(body: &[u8], proof: &str) -> bool {
    body.get(..proof.len()) == Some(proof.as_bytes())
}

/// Delegation requests of one agent to another, both registered here.
///
/// # Errors
/// When the broker refuses.
pub async fn delegation(world: &World, number: usize) -> Result<Vec<u8>> {
    let mut connection = world.connect().await?;
    let from = agent::register(&mut connection, &keys(number), &world.launch, "delegate").await?;
    let to = agent::register(&mut connection, &keys(number), &world.launch, "delegate").await?;
    let body = format!(r#"{{"delegate_to":"{}","scope":["{SCOPE}"],"ttl":60}}"#, to.agent_id);
    Ok(request("POST", "/v1/delegate", from.access_token.expose(), &body))
}

/// Revocation requests, one for each token.
///
/// # Errors
/// When one is no token.
pub fn revocations(world: &World, tokens: &[String]) -> Result<Vec<Vec<u8>>> {
    let revocation = |token: &String| {
        let body = format!(r#"{{"level":"token","target":"{}"}}"#, claims(token)?.jti);
        Ok(request("POST", "/v1/revoke", &world.admin, &body))
    };
    tokens.iter().map(revocation).collect()
}
