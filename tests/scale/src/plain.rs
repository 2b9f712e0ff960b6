//! What the API server takes of a plain client: the two writes that the controller makes of each object.

use std::time::Duration;

use agentwrit_testkit::load::moment;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::{self, PLAIN};
use crate::observer::Observer;
use crate::{Options, Result};

/// The most objects that it takes: enough for some seconds.
const MOST: usize = 2000;

/// How many pairs it took, and in which time.
pub(crate) struct Pairs {
    pub(crate) count: usize,
    pub(crate) elapsed: Duration,
}

/// The same writes as the controller's, byte for byte but for the names; what it writes is removed again.
pub(crate) async fn pairs(client: &Client, options: &Options) -> Result<Pairs> {
    let count = options.tokens.min(MOST);
    let made = cluster::create_plain(client, count).await?;
    let observer = Observer::start(client);
    let api = cluster::launch_tokens(client, PLAIN);
    let transition = "2026-01-01T00:00:00Z";
    let begun = moment::now();
    cluster::for_each(count, options.concurrency, async |number| {
        let Some((name, version)) = made.get(number) else { return Ok(()) };
        let finalizer = Patch::Merge(json!({
            "metadata": {"resourceVersion": version, "finalizers": ["agentwrit.io/broker-policy"]},
        }));
        let parameters = PatchParams { field_manager: Some("plain-client".into()), ..PatchParams::default() };
        api.patch_metadata(name, &parameters, &finalizer).await?;
        let condition = |type_: &str, reason: &str, message: &str| {
            json!({
                "type": type_, "status": "True", "reason": reason, "message": message, "observedGeneration": 1,
                "lastTransitionTime": transition,
            })
        };
        let status = Patch::Apply(json!({
            "apiVersion": "agentwrit.io/v1alpha1", "kind": "LaunchToken", "metadata": {"name": name},
            "status": {
                "observedGeneration": 1, "activeAgents": 0, "issued": 0,
                "conditions": [
                    condition("Ready", "Synced", "Pods can be launched with it."),
                    condition("CABundle", "Written", "This namespace has the ConfigMap agentwrit-ca, which the pods mount."),
                ],
            },
        }));
        api.patch_status(name, &PatchParams::apply("plain-client").force(), &status).await?;
        Ok(())
    })
    .await?;
    // As for the controller: somebody watches, and the last is seen there.
    let elapsed = observer.are_ready(count).await?.saturating_duration_since(begun);
    cluster::remove_plain(client, &made).await?;
    Ok(Pairs { count, elapsed })
}
