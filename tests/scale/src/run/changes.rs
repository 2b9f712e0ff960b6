//! What changes cause: of objects, and on the broker's side.

use std::collections::BTreeMap;
use std::time::Duration;

use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::k8s::PolicySummary;
use agentwrit_testkit::load::moment;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{LOOK_AGAIN, PATIENCE, Run, grown, per_object, text};
use crate::cluster::{self, app_name, app_of, namespace, token_name};
use crate::counts;
use crate::report::Spread;
use crate::{Result, say};

impl Run {
    async fn change_token(&self, number: usize, seconds: i64) -> Result<Duration> {
        let namespace = namespace(app_of(number, &self.options), &self.options);
        let name = token_name(number);
        let change = Patch::Merge(json!({"spec": {"maxTTLSeconds": seconds}}));
        let begun = moment::now();
        let changed = cluster::launch_tokens(&self.client, &namespace)
            .patch(&name, &PatchParams::default(), &change)
            .await?;
        let generation = changed.metadata.generation.unwrap_or_default();
        // The status says so after the broker has accepted it.
        let ready = self
            .observer
            .is_ready::<LaunchToken>(&namespace, &name, generation)
            .await?;
        Ok(ready.saturating_duration_since(begun))
    }

    pub(super) async fn changes(&mut self) -> Result<()> {
        let changes = self.options.changes.min(self.options.tokens);
        say(&format!("{changes} changes, one after the other"));
        let (api, calls) = (self.settled().await?, counts::of_broker(self.broker.ops).await?);
        let mut times = Vec::with_capacity(changes);
        for number in 0..changes {
            times.push(self.change_token(number, 600).await?);
        }
        let spread = Spread::of(times);
        self.report.goal(
            "from a change until its status says that the broker has it",
            spread.text(),
            "p99 below 1 s",
            spread.p99 < 1.0,
        );
        let writes = self.settled().await?.since(&api).writes();
        let most = u64::try_from(changes)? * 2;
        self.report.count(
            "API writes of a change, the change itself among them",
            format!("{:.2} ({})", per_object(writes.total(), changes), writes.text()),
            "2",
            writes.total() == most,
        );
        let sent = policy_writes(&counts::of_broker(self.broker.ops).await?, &calls);
        self.report.count(
            "writes to the broker of a change",
            format!("{:.2}", per_object(sent, changes)),
            "1",
            sent == u64::try_from(changes)?,
        );
        let list = self.broker.list().await?;
        let first = list.policies.iter().filter(|held| held.generation == 2).count();
        self.report.count(
            "changes that the broker has",
            first.to_string(),
            "all",
            first == changes,
        );
        Ok(())
    }

    /// One app with all its LaunchTokens: once in a way that their status doesn't tell, once in one that it tells.
    pub(super) async fn change_of_an_app(&mut self) -> Result<()> {
        let tokens = (0..self.options.tokens)
            .filter(|token| app_of(*token, &self.options) == 0)
            .count();
        let tokens = u64::try_from(tokens)?;
        let wider = json!({"scopes": ["read:orders:*", "write:orders:*", "read:stock:*"]});
        // Those of the changes above have 600 s, the others 300: the cap shows in the status of all.
        let cap = json!({"maxAgentTTLSeconds": 60});
        for (what, spec, most) in [("wider", wider, 2), ("capped", cap, 2 + tokens)] {
            let (api, calls) = (self.settled().await?, counts::of_broker(self.broker.ops).await?);
            self.change_app(0, &spec).await?;
            let writes = self.settled().await?.since(&api).writes();
            let sent = policy_writes(&counts::of_broker(self.broker.ops).await?, &calls);
            self.report.count(
                &format!("an app with {tokens} LaunchTokens becomes {what}"),
                format!("API writes: {}; requests to the broker: {sent}", writes.text()),
                &format!("{most} API writes and 1 request"),
                writes.total() == most && sent == 1,
            );
        }
        Ok(())
    }

    async fn change_app(&self, app: usize, spec: &Value) -> Result<()> {
        let (namespace, name) = (namespace(app, &self.options), app_name(app));
        let changed = cluster::apps(&self.client, &namespace)
            .patch(&name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec})))
            .await?;
        let generation = changed.metadata.generation.unwrap_or_default();
        self.observer
            .is_ready::<AgentApp>(&namespace, &name, generation)
            .await?;
        Ok(())
    }

    /// Waits until the broker has written so many policies since it started.
    async fn applied(&self, count: u64) -> Result<Duration> {
        let begun = moment::now();
        while counts::events(self.broker.ops, "policy_applied").await? < count {
            if begun.elapsed() > PATIENCE {
                return Err(format!(
                    "the broker has not written {count} policies within {} s",
                    PATIENCE.as_secs()
                )
                .into());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(begun.elapsed())
    }

    /// Somebody changes a policy on the broker's side.
    pub(super) async fn drift(&mut self) -> Result<()> {
        say("one policy is changed on the broker's side");
        let number = self.options.tokens - 1;
        let (name, namespace) = (
            token_name(number),
            namespace(app_of(number, &self.options), &self.options),
        );
        let before = self.broker.list().await?;
        let is_it = |held: &&PolicySummary| held.name == name && held.namespace == namespace;
        let held = before
            .policies
            .iter()
            .find(is_it)
            .ok_or("the broker doesn't hold the last LaunchToken")?;
        let order = json!({"lease_epoch": before.lease_epoch, "sequence": held.order.sequence + 1});
        let other = json!({
            "uid": held.uid, "generation": held.generation, "order": order, "state": "ready",
            "spec": {
                "app": app_name(app_of(number, &self.options)), "agent_name": "somebody-else",
                "allowed_scopes": ["write:orders:*"], "max_ttl_seconds": 60, "service_account_names": ["default"],
            },
        });
        let (applied, api) = (
            counts::events(self.broker.ops, "policy_applied").await?,
            self.settled().await?,
        );
        let path = format!("/v1/k8s/policies/launch-tokens/{namespace}/{name}");
        self.broker.as_controller("PUT", &path, &other.to_string()).await?;
        let took = self.applied(applied + 2).await?;
        let after = self.broker.list().await?;
        let is_right = after
            .policies
            .iter()
            .find(is_it)
            .is_some_and(|now| now.digest == held.digest);
        let writes = self.settled().await?.since(&api).writes();
        self.report.count(
            "a policy that was changed at the broker",
            format!(
                "put right after {:.1} s, with {} API writes",
                took.as_secs_f64(),
                writes.total()
            ),
            "as the object says, and no API write",
            is_right && writes.total() == 0,
        );
        Ok(())
    }

    pub(super) async fn lost_store(&mut self) -> Result<()> {
        say("the broker loses its store");
        let api = self.settled().await?;
        self.broker.lose_store().await?;
        let objects = u64::try_from(self.objects())?;
        let took = self.applied(objects).await?;
        let list = self.broker.list().await?;
        let calls = counts::of_broker(self.broker.ops).await?;
        let writes = self.settled().await?.since(&api).writes();
        self.report.count(
            "a broker that lost its store",
            format!(
                "has {} policies again {:.1} s after its start, by {}; API writes: {}",
                list.policies.len(),
                took.as_secs_f64(),
                text(&calls),
                writes.total()
            ),
            "all of them, and no API write",
            list.policies.len() == self.objects() && writes.total() == 0,
        );
        Ok(())
    }
}

/// Requests that wrote policies.
fn policy_writes(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> u64 {
    let grown = grown(now, before);
    ["k8s_policies", "k8s_policy"]
        .iter()
        .filter_map(|name| grown.get(*name))
        .sum()
}
