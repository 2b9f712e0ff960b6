//! The status of an object: conditions, observedGeneration, appId, clientId and counts.

use agentwrit_crds::{CONDITION_CA_BUNDLE, CONDITION_FINALIZER, CONDITION_READY, CONDITION_TOKEN_SIZE};
use agentwrit_protocol::excerpt::truncate;
use agentwrit_protocol::inject::CA_CONFIG_MAP;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::EventType;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::policy_resource::PolicyResource;
use super::{ReconcileError, Reconciliation, STATUS_MANAGER};
use crate::pki::ca_bundles::CaBundleState;
use crate::pki::config_maps::{MAX_MESSAGE, NOT_WRITTEN};
use crate::reconcile::condition::{self, Ready, Wanted};
use crate::report::chain;

/// Ids at the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) app_id: Option<String>,
    pub(super) client_id: Option<String>,
}

impl Ids {
    /// As the status of the object has them.
    fn present<K: PolicyResource>(object: &K) -> Self {
        Self {
            app_id: object.app_id().map(str::to_owned),
            client_id: object.client_id().map(str::to_owned),
        }
    }
}

impl<K: PolicyResource> Reconciliation<'_, K> {
    /// Whether the first status would lack the state of the CA, which follows in a moment.
    pub(super) fn awaits_ca(&self) -> bool {
        let has_status = self.object.observed_generation().is_some();
        K::NEEDS_CA && !has_status && self.context.ca_bundles.is_awaited(&self.namespace, Instant::now())
    }

    /// The conditions as they should be, and the types of those that stay as they are.
    pub(super) fn wanted(&self, ready: &Ready) -> (Vec<Wanted>, &'static [&'static str]) {
        let mut wanted = vec![Wanted::from(ready)];
        wanted.extend(
            self.object
                .warning(&self.context.caches, &self.context.config.broker_url),
        );
        if !K::NEEDS_CA {
            return (wanted, &[]);
        }
        match self.context.ca_bundles.of(&self.namespace) {
            Some(state) => wanted.push(ca_bundle(state)),
            None => return (wanted, &[CONDITION_CA_BUNDLE]),
        }
        (wanted, &[])
    }

    /// The finalizer can't be set, so that the broker doesn't hear of the object: the status says so, if it can.
    pub(super) async fn report_finalizer_error(&self, error: &ReconcileError) -> Result<(), ReconcileError> {
        if error.is_a_pause() {
            return Ok(());
        }
        let message = format!("This object isn't sent to the broker: {}", chain(error));
        let wanted = Wanted {
            type_: CONDITION_FINALIZER,
            is_true: false,
            reason: "NotSet",
            message: truncate(&message, MAX_MESSAGE).into_owned(),
        };
        // The Event about it comes with the error.
        self.write_conditions(
            &[wanted],
            &[CONDITION_READY, CONDITION_CA_BUNDLE, CONDITION_TOKEN_SIZE],
            None,
        )
        .await
        .map(drop)
    }

    /// Writes the conditions that changed, with observedGeneration and ids (`None`: as they are); Events report flips.
    pub(super) async fn write_status(
        &self,
        wanted: &[Wanted],
        kept: &[&str],
        ids: Option<Ids>,
    ) -> Result<(), ReconcileError> {
        for flipped in self.write_conditions(wanted, kept, ids).await? {
            let type_ = if flipped.is_true {
                EventType::Normal
            } else {
                EventType::Warning
            };
            let reason = match flipped.type_ {
                CONDITION_READY => flipped.reason.to_owned(),
                // An Event doesn't show the condition's type.
                type_ if flipped.reason == NOT_WRITTEN || flipped.is_true => format!("{type_}{}", flipped.reason),
                _ => flipped.reason.to_owned(),
            };
            let reference = self.object.object_ref(&());
            let reporter = &self.context.reporter;
            reporter
                .event(type_, &reason, "Reconcile", &flipped.message, &reference)
                .await;
            tracing::info!(
                kind = %K::kind(&()), namespace = self.namespace, name = self.name, condition = flipped.type_,
                reason = flipped.reason, message = flipped.message, "a condition changed"
            );
        }
        Ok(())
    }

    /// Returns those that flipped.
    async fn write_conditions(
        &self,
        wanted: &[Wanted],
        kept: &[&str],
        ids: Option<Ids>,
    ) -> Result<Vec<Wanted>, ReconcileError> {
        let generation = self.object.meta().generation;
        let present = self.object.conditions();
        let changes = condition::changes(present, wanted, kept, generation, self.context.clock.unix_seconds());
        let shown = Ids::present(self.object);
        let ids = ids.unwrap_or_else(|| shown.clone());
        let status_now = self.object.status_value();
        let counts = self.counts(&status_now);
        if changes.is_none()
            && self.object.observed_generation() == generation
            && shown == ids
            && counts.iter().all(|(name, count)| status_now.get(name) == Some(count))
        {
            return Ok(Vec::new());
        }
        let (conditions, flipped) = match changes {
            Some(changes) => (changes.conditions, changes.flipped),
            None => (condition::ours(present), Vec::new()),
        };
        let mut status = counts;
        status.insert("observedGeneration".into(), json!(generation));
        status.insert("conditions".into(), json!(conditions));
        for (field, id) in [("appId", ids.app_id), ("clientId", ids.client_id)] {
            if let Some(id) = id {
                status.insert(field.into(), json!(id));
            }
        }
        self.apply_status(status).await?;
        Ok(flipped)
    }

    /// By the broker's last list; as they were while the broker doesn't hold the object.
    fn counts(&self, status: &Value) -> Map<String, Value> {
        if let Some(held) = self.context.broker.held(&self.key) {
            return self.object.counts(&self.context.caches, &held);
        }
        let as_it_was = |name: &str| Some((name.to_owned(), status.get(name)?.clone()));
        K::COUNTS.into_iter().filter_map(as_it_was).collect()
    }

    /// All of the status at once: each write costs the API server, and everybody who watches.
    async fn apply_status(&self, status: Map<String, Value>) -> Result<(), ReconcileError> {
        self.may_write()?;
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": self.name, "uid": self.object.uid()},
            "status": status,
        });
        let parameters = PatchParams::apply(STATUS_MANAGER).force();
        match self
            .api
            .patch_status(&self.name, &parameters, &Patch::Apply(patch))
            .await
        {
            Ok(answer) => {
                self.context.written.add(answer.meta(), Instant::now());
                Ok(())
            }
            // Gone, or another object of that name: nothing to say of this one.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(source) => Err(self.failed("writing the status of", "StatusNotWritten", source)),
        }
    }
}

/// Whether the pods of a `LaunchToken`'s namespace have the CA that they mount.
fn ca_bundle(state: CaBundleState) -> Wanted {
    let (is_true, reason, message) = match state {
        CaBundleState::Written => (
            true,
            "Written",
            format!("This namespace has the ConfigMap {CA_CONFIG_MAP}, which the pods mount."),
        ),
        CaBundleState::Missing(missing) => (false, missing.reason, missing.message),
    };
    Wanted {
        type_: CONDITION_CA_BUNDLE,
        is_true,
        reason,
        message,
    }
}
