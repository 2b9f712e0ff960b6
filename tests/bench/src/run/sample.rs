//! One operation under load: its requests, and the sample of a window.

use std::sync::Arc;

use agentwrit_testkit::load::agent::{claims, validation};
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::request;
use agentwrit_testkit::load::process::Settings;

use super::Bench;
use crate::goals::Operation;
use crate::measure::{Idle, Load, Sample, window};
use crate::operations::{LaunchAndRegister, Register, Renew, Repeat, delegation, revocations};
use crate::prepare::{Countdown, World, unseen};

/// Tokens that a second of revocations, and of validations of new tokens, is given.
const REVOKED_A_SECOND: usize = 4_000;
const VALIDATED_A_SECOND: usize = 30_000;
const ROTATION: usize = 1_000;

/// A kind of request that needs nothing of the answer before it.
#[derive(Clone, Copy)]
struct Kind {
    what: &'static str,
    /// How the right answer begins.
    proof: &'static str,
    idle: Idle,
}

const DELEGATE: Kind = Kind {
    what: "delegate",
    proof: "{\"access_token\":",
    idle: Idle::Sleeps,
};
const REVOKE: Kind = Kind {
    what: "revoke",
    proof: "{\"revoked\":true",
    idle: Idle::Sleeps,
};
const VALIDATE: Kind = Kind {
    what: "validate",
    proof: "{\"valid\":true",
    idle: Idle::Spins,
};
const QUERY: Kind = Kind {
    what: "audit query",
    proof: "{\"events\":[{",
    idle: Idle::Spins,
};

impl Bench {
    pub(super) async fn operation(
        &self,
        world: &World,
        settings: &Settings,
        operation: Operation,
        clients: usize,
    ) -> Result<Sample> {
        let length = self.options.length;
        let so_many = |a_second: usize| a_second * usize::try_from(length.as_millis()).unwrap_or(1000) / 1000;
        match operation {
            Operation::Register => {
                let mut loads = Vec::new();
                for number in 0..clients {
                    loads.push(Register::new(world, number).await?);
                }
                window(loads, length, world, Idle::Sleeps).await
            }
            Operation::LaunchRegister => {
                let mut loads = Vec::new();
                for number in 0..clients {
                    loads.push(LaunchAndRegister::new(world, number).await?);
                }
                window(loads, length, world, Idle::Sleeps).await
            }
            Operation::Renew => {
                let mut loads = Vec::new();
                for number in 0..clients {
                    loads.push(Renew::new(world, number).await?);
                }
                window(loads, length, world, Idle::Sleeps).await
            }
            Operation::Delegate => {
                let mut requests = Vec::new();
                for number in 0..clients {
                    requests.push(delegation(world, number).await?);
                }
                self.rotation(world, DELEGATE, clients, requests).await
            }
            Operation::Revoke => {
                let requests = revocations(world, &world.tokens(so_many(REVOKED_A_SECOND)).await?)?;
                self.each_once(world, REVOKE, clients, requests).await
            }
            Operation::ValidateNew => {
                let like = world.tokens(1).await?;
                let tokens = unseen(&settings.folder, first(&like)?, so_many(VALIDATED_A_SECOND))?;
                let requests = tokens.iter().map(|token| validation(token)).collect();
                self.each_once(world, VALIDATE, clients, requests).await
            }
            Operation::ValidateRepeated => {
                let tokens = world.tokens(ROTATION).await?;
                let requests = tokens.iter().map(|token| validation(token)).collect();
                self.rotation(world, VALIDATE, clients, requests).await
            }
            Operation::Audit => self.query(world, "", clients).await,
            Operation::AuditByType => self.query(world, "&event_type=token_issued", clients).await,
            Operation::AuditByAgent => {
                let agent = claims(first(&world.tokens(1).await?)?)?.sub;
                let filter = format!("&agent_id={}", agent.replace(':', "%3A").replace('/', "%2F"));
                self.query(world, &filter, clients).await
            }
        }
    }

    async fn query(&self, world: &World, filter: &str, clients: usize) -> Result<Sample> {
        let path = format!("/v1/audit/events?limit=100{filter}");
        let requests = vec![request("GET", &path, &world.admin, "")];
        // A database needs a core, too.
        let idle = if world.has_database() { Idle::Sleeps } else { QUERY.idle };
        self.rotation(world, Kind { idle, ..QUERY }, clients, requests).await
    }

    async fn rotation(&self, world: &World, kind: Kind, clients: usize, requests: Vec<Vec<u8>>) -> Result<Sample> {
        let (requests, apart) = (Arc::new(requests), ROTATION / clients.max(1));
        let mut loads = Vec::new();
        for number in 0..clients {
            let load = Repeat::rotate(world.connect().await?, kind.what, &requests, number * apart);
            loads.push(load.with_proof(kind.proof));
        }
        self.measured(world, loads, kind.idle).await
    }

    async fn each_once(&self, world: &World, kind: Kind, clients: usize, requests: Vec<Vec<u8>>) -> Result<Sample> {
        let left = Countdown::new(requests.len());
        let requests = Arc::new(requests);
        let mut loads = Vec::new();
        for _ in 0..clients {
            let load = Repeat::once_each(world.connect().await?, kind.what, &requests, &left);
            loads.push(load.with_proof(kind.proof));
        }
        self.measured(world, loads, kind.idle).await
    }

    async fn measured<L: Load>(&self, world: &World, loads: Vec<L>, idle: Idle) -> Result<Sample> {
        window(loads, self.options.length, world, idle).await
    }
}

fn first(tokens: &[String]) -> Result<&str> {
    let token = tokens.first().map(String::as_str);
    token.ok_or_else(|| Failure::Broker("no token was registered".into()))
}
