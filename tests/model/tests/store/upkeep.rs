//! What is done to a store beside the model's commands.

use std::time::Duration;

use agentwrit_protocol::{ScopeSet, Ttl};
use agentwrit_store::{Command, LaunchToken, Result, Tx};
use async_trait::async_trait;

use crate::attempt::{TICK, launch_hash};
use crate::reference::LAUNCHES;

/// Makes all launch tokens.
pub(crate) struct Launches;

#[async_trait]
impl Command for Launches {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        for launch in 0..LAUNCHES {
            let token = LaunchToken {
                hash: launch_hash(launch),
                agent_name: "agent".to_owned(),
                allowed_scope: ScopeSet::parse(["read:data:*"]).unwrap(),
                max_ttl: Ttl::seconds(TICK),
                single_use: true,
                expires_at: tx.now_millis() + Duration::from_hours(30 * 24),
                consumed_at: None,
                created_by: "admin".to_owned(),
                correlation_id: String::new(),
                attested: None,
            };
            tx.insert_launch_token(&token).await?;
        }
        Ok(())
    }
}

/// Takes indexes back: one step.
pub(crate) struct Sweep;

#[async_trait]
impl Command for Sweep {
    type Outcome = u64;

    async fn run(self, tx: &mut dyn Tx) -> Result<u64> {
        tx.free_status_indexes().await
    }
}
