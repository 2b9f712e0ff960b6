//! From a custom resource to broker policy, condition and finalizer: level-triggered and idempotent.

pub(crate) mod condition;
pub(crate) mod desired;
pub(crate) mod policy_resource;
pub(crate) mod queue;
mod status;
mod token_size;
pub(crate) mod watches;

use std::sync::Arc;
use std::time::Duration;

use agentwrit_crds::{AgentApp, CONDITION_CA_BUNDLE, CONDITION_TOKEN_SIZE, LaunchToken};
use agentwrit_protocol::inject::{ANNOTATION_RELEASE_FINALIZER, FINALIZER};
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;

use crate::context::{Context, ReconcileFeeds};
use crate::leader::broker_sync::BrokerSync;
use crate::pki::config_maps::MAX_MESSAGE;
use crate::policy_client::{BrokerError, PolicyKey, PolicySpec};
use crate::reconcile::condition::{Ready, Reason, Wanted};
use crate::report::{Categorised, Category, chain, shorten};
use policy_resource::PolicyResource;
use queue::Requests;

/// Owns the finalizer, conditions, observedGeneration and appId.
const STATUS_MANAGER: &str = "agentwrit-controller";
/// A broker that stays away this long shows in the condition of an object that is being deleted.
const LONG_DELETION: i64 = 600;

/// What a user decides about an object: what can't be written for it now can perhaps once that has changed. Not its
/// resourceVersion, for that changes with each status that we write ourselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    uid: String,
    generation: Option<i64>,
    deleted_at: Option<i64>,
    release: Option<String>,
}

impl Version {
    pub(crate) fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation,
            deleted_at: meta.deletion_timestamp.as_ref().map(|at| at.0.as_second()),
            release: object.annotations().get(ANNOTATION_RELEASE_FINALIZER).cloned(),
        }
    }
}

/// Why a reconciliation has to be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The API server refused or didn't answer.
    #[error("{doing} {namespace}/{name} failed")]
    Api {
        /// What we were doing.
        doing: &'static str,
        /// Reason of the Event.
        event: &'static str,
        namespace: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The object doesn't have the form of its kind.
    #[error("the object {namespace}/{name} doesn't have the form of its kind: {error}")]
    Malformed {
        namespace: String,
        name: String,
        error: String,
    },
    /// It failed a moment ago, and nothing has changed since.
    #[error("writes for {namespace}/{name} rest after a failure")]
    BackingOff { namespace: String, name: String },
}

impl ReconcileError {
    /// Reason of the Event about it.
    pub(crate) const fn event(&self) -> &'static str {
        match self {
            Self::Api { event, .. } => event,
            Self::Malformed { .. } => "NotReadable",
            Self::BackingOff { .. } => "Rests",
        }
    }
}

impl Categorised for ReconcileError {
    fn category(&self) -> Category {
        match self {
            Self::Api { .. } | Self::BackingOff { .. } => Category::Kubernetes,
            Self::Malformed { .. } => Category::MalformedObject,
        }
    }
}

/// Starts the watches of custom resources, and the reconcilers once the caches are filled.
pub(crate) fn spawn(context: &Arc<Context>, feeds: ReconcileFeeds, tasks: &mut JoinSet<()>) {
    let ReconcileFeeds {
        apps,
        launch_tokens,
        app_requests,
        token_requests,
    } = feeds;
    tasks.spawn(watches::apps(Arc::clone(context), apps));
    tasks.spawn(watches::launch_tokens(Arc::clone(context), launch_tokens));
    tasks.spawn(watches::ca_config_maps(Arc::clone(context)));
    tasks.spawn(reconcile_all(Arc::clone(context), app_requests, token_requests));
}

/// Waits for the caches, so that nothing is decided on half a picture; then keeps the broker in step and works off the
/// queues, for ever.
async fn reconcile_all(context: Arc<Context>, apps: Requests<AgentApp>, launch_tokens: Requests<LaunchToken>) {
    // This task alone waits for the caches: of two that wait for one, kube's Store wakes only one.
    let all_known = async {
        context.namespaces.wait_until_ready().await?;
        context.caches.apps.wait_until_ready().await?;
        context.caches.launch_tokens.wait_until_ready().await
    };
    if all_known.await.is_err() {
        return;
    }
    context.readiness.caches();
    tracing::info!("namespaces, AgentApps and LaunchTokens are known");
    let mut refreshes = context.broker.refreshes();
    let working = async {
        // The first refresh shows what the broker holds already, and whether it answers.
        if refreshes.changed().await.is_ok() {
            tokio::join!(
                queue::work(context.caches.apps.clone(), apps, Arc::clone(&context)),
                queue::work(
                    context.caches.launch_tokens.clone(),
                    launch_tokens,
                    Arc::clone(&context)
                ),
            );
        }
    };
    tokio::join!(BrokerSync::new(Arc::clone(&context)).run(), working);
}

/// Brings one object, the broker and the object's status together.
///
/// # Errors
/// When the API server refuses or doesn't answer; to be tried again.
pub(crate) async fn reconcile<K: PolicyResource>(
    object: Arc<DeserializeGuard<K>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if context.leadership.claim().is_none() {
        return Ok(Action::await_change());
    }
    match &object.0 {
        Ok(object) => Reconciliation::new(object, &context).run().await,
        Err(invalid) => {
            let namespace = invalid.metadata.namespace.clone().unwrap_or_default();
            let name = invalid.metadata.name.clone().unwrap_or_default();
            if context.backoff.rests(&Version::of(object.as_ref())).is_some() {
                return Err(ReconcileError::BackingOff { namespace, name });
            }
            Err(ReconcileError::Malformed {
                namespace,
                name,
                error: invalid.error.clone(),
            })
        }
    }
}

/// One object under reconciliation.
struct Reconciliation<'a, K> {
    object: &'a K,
    context: &'a Context,
    api: Api<K>,
    namespace: String,
    name: String,
    key: PolicyKey,
}

impl<'a, K: PolicyResource> Reconciliation<'a, K> {
    fn new(object: &'a K, context: &'a Context) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        let name = object.name_any();
        Self {
            object,
            context,
            api: Api::namespaced(context.client.clone(), &namespace),
            key: PolicyKey {
                kind: K::Spec::KIND,
                namespace: namespace.clone(),
                name: name.clone(),
            },
            namespace,
            name,
        }
    }

    async fn run(self) -> Result<Action, ReconcileError> {
        if self.object.meta().deletion_timestamp.is_some() {
            return self.cleanup().await;
        }
        if !self.object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
            // Before the broker hears of it; the watch brings us back with the finalizer.
            if let Err(error) = self.set_finalizers(true).await {
                self.report_finalizer_error(&error).await?;
                return Err(error);
            }
            return Ok(Action::await_change());
        }
        let desired = self.object.desired(&self.context.caches);
        let held = self.context.broker.ensure(&self.key, &desired.put).await;
        let (ready, app_id, action) = match held {
            Ok(app_id) => (desired.ready, app_id, Action::await_change()),
            Err(BrokerError::NotLeader) => return Ok(Action::await_change()),
            Err(BrokerError::Stale) => return Ok(Action::requeue(Duration::from_secs(1))),
            // The next look at the broker brings us back.
            Err(error) => (not_held(&desired.ready, &error), None, Action::await_change()),
        };
        let (wanted, kept) = self.wanted(&ready);
        self.write_status(&wanted, kept, app_id.as_deref()).await?;
        self.write_counts().await?;
        Ok(action)
    }

    async fn cleanup(self) -> Result<Action, ReconcileError> {
        if !self.object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(Action::await_change());
        }
        let uid = self.object.uid().unwrap_or_default();
        let removed = self
            .context
            .broker
            .remove(&self.key, &uid, self.object.revokes_on_delete())
            .await;
        let error = match removed {
            Ok(()) => {
                if let Err(error) = self.set_finalizers(false).await {
                    if !matches!(error, ReconcileError::BackingOff { .. }) {
                        let message = format!("Deletion waits: {}.", chain(&error));
                        let ready = Ready::new(Reason::Deleting, shorten(&message, MAX_MESSAGE));
                        self.write_status(
                            &[Wanted::from(&ready)],
                            &[CONDITION_CA_BUNDLE, CONDITION_TOKEN_SIZE],
                            None,
                        )
                        .await?;
                    }
                    return Err(error);
                }
                return Ok(Action::await_change());
            }
            Err(BrokerError::NotLeader) => return Ok(Action::await_change()),
            Err(BrokerError::Stale) => return Ok(Action::requeue(Duration::from_secs(1))),
            Err(error) => error,
        };
        if self
            .object
            .annotations()
            .get(ANNOTATION_RELEASE_FINALIZER)
            .map(String::as_str)
            == Some("true")
        {
            self.set_finalizers(false).await?;
            let note = format!(
                "The annotation {ANNOTATION_RELEASE_FINALIZER} let the object go before the broker knew ({error}); its \
                 policy is removed there by the next full comparison."
            );
            let reference = self.object.object_ref(&());
            let reporter = &self.context.reporter;
            reporter
                .event(EventType::Warning, "FinalizerReleased", "Delete", &note, &reference)
                .await;
            return Ok(Action::await_change());
        }
        let since = self
            .object
            .meta()
            .deletion_timestamp
            .as_ref()
            .map_or(0, |at| at.0.as_second());
        let waited = self.context.clock.unix_seconds().saturating_sub(since);
        let conditions = [Wanted::from(&deleting(&error, waited))];
        self.write_status(&conditions, &[CONDITION_CA_BUNDLE, CONDITION_TOKEN_SIZE], None)
            .await?;
        Ok(Action::requeue(Duration::from_secs(5)))
    }

    /// Nothing is written for an object for which a write has just failed.
    fn check_backoff(&self) -> Result<(), ReconcileError> {
        match self.context.backoff.rests(&Version::of(self.object)) {
            None => Ok(()),
            Some(_) => Err(ReconcileError::BackingOff {
                namespace: self.namespace.clone(),
                name: self.name.clone(),
            }),
        }
    }

    async fn set_finalizers(&self, present: bool) -> Result<(), ReconcileError> {
        self.check_backoff()?;
        let mut finalizers: Vec<String> = self.object.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if present {
            finalizers.push(FINALIZER.to_owned());
        }
        let patch = json!({
            "metadata": {"resourceVersion": self.object.resource_version(), "finalizers": finalizers},
        });
        let parameters = PatchParams {
            field_manager: Some(STATUS_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match self
            .api
            .patch_metadata(&self.name, &parameters, &Patch::Merge(patch))
            .await
        {
            Ok(_) => Ok(()),
            // Gone, or changed since: the watch brings us back with the newer object.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(source) if present => Err(self.failed("setting the finalizer of", "FinalizerNotSet", source)),
            Err(source) => Err(self.failed("taking the finalizer off", "FinalizerNotRemoved", source)),
        }
    }

    fn failed(&self, doing: &'static str, event: &'static str, source: kube::Error) -> ReconcileError {
        ReconcileError::Api {
            doing,
            event,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            source: Box::new(source),
        }
    }
}

/// What the condition says while the broker doesn't hold what it should.
fn not_held(desired: &Ready, error: &BrokerError) -> Ready {
    match error {
        BrokerError::Refused { code, detail } => Ready::new(
            Reason::BrokerRefused,
            format!("The broker refused the policy ({code}): {detail}"),
        ),
        BrokerError::Unavailable { .. } | BrokerError::NotLeader | BrokerError::Stale if desired.is_true() => {
            Ready::new(
                Reason::BrokerUnavailable,
                "The broker can't be reached; what it accepted last stays in force there, and this spec follows as soon as it answers.",
            )
        }
        // What a person has to repair comes first; the broker's absence heals by itself.
        BrokerError::Unavailable { .. } | BrokerError::NotLeader | BrokerError::Stale => desired.clone(),
    }
}

/// What the condition says while an object can't be deleted.
fn deleting(error: &BrokerError, waited_seconds: i64) -> Ready {
    let why = match error {
        BrokerError::Refused { detail, .. } => format!("the broker refused to remove the policy: {detail}"),
        BrokerError::Unavailable { .. } | BrokerError::NotLeader | BrokerError::Stale => {
            "the broker can't be reached".to_owned()
        }
    };
    let way_out = if waited_seconds >= LONG_DELETION {
        format!(
            " This has lasted over 10 minutes; the annotation {ANNOTATION_RELEASE_FINALIZER}: \"true\" deletes the object \
             without the broker."
        )
    } else {
        String::new()
    };
    Ready::new(Reason::Deleting, format!("Deletion waits: {why}.{way_out}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Backoff;
    use agentwrit_protocol::ErrorCode;

    fn away() -> BrokerError {
        BrokerError::Unavailable {
            kind: "network",
            source: None,
        }
    }

    #[test]
    fn the_brokers_absence_never_hides_what_a_person_must_repair() {
        let synced = Ready::new(Reason::Synced, "");
        let missing = Ready::new(Reason::AppNotFound, "no app");
        assert_eq!(not_held(&synced, &away()).reason, Reason::BrokerUnavailable);
        assert_eq!(not_held(&missing, &away()), missing);
        let refused = BrokerError::Refused {
            code: ErrorCode::InvalidRequest,
            detail: "spec.scopes: too long".into(),
        };
        let ready = not_held(&synced, &refused);
        assert_eq!(ready.reason, Reason::BrokerRefused);
        assert!(
            ready.message.contains("invalid_request") && ready.message.contains("too long"),
            "{}",
            ready.message
        );
    }

    #[test]
    fn a_long_deletion_tells_the_way_out() {
        assert!(!deleting(&away(), 599).message.contains("release-finalizer"));
        assert!(
            deleting(&away(), 600)
                .message
                .contains("agentwrit.io/release-finalizer")
        );
    }

    fn app(generation: i64, more: &serde_json::Value) -> AgentApp {
        let mut app = json!({
            "metadata": {"uid": "u", "name": "shop", "namespace": "shop", "generation": generation},
            "spec": {"scopes": ["read:orders:*"]},
        });
        json_patch::merge(&mut app, more);
        serde_json::from_value(app).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_status_writes_dont_end_a_rest() {
        let backoff = Backoff::default();
        let mut pauses = Vec::new();
        // A refusal whose sentence varies is in the status each time, and each time the object has a new resourceVersion.
        for version in 1..=4 {
            let said = json!({
                "metadata": {"resourceVersion": version.to_string()},
                "status": {"observedGeneration": version},
            });
            let told = Version::of(&app(1, &said));
            assert_eq!(backoff.rests(&told), None);
            pauses.push(backoff.failed(told).as_secs());
            let written = app(1, &json!({"metadata": {"resourceVersion": "new"}}));
            assert!(backoff.rests(&Version::of(&written)).is_some());
            tokio::time::advance(Duration::from_secs(*pauses.last().unwrap())).await;
        }
        assert_eq!(pauses, [1, 2, 4, 8]);
    }

    #[test]
    fn what_a_user_changes_is_tried_at_once() {
        let before = Version::of(&app(1, &json!({})));
        for (generation, change) in [
            (2, json!({})),
            (1, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
            (
                1,
                json!({"metadata": {"annotations": {ANNOTATION_RELEASE_FINALIZER: "true"}}}),
            ),
            (1, json!({"metadata": {"uid": "another"}})),
        ] {
            assert_ne!(Version::of(&app(generation, &change)), before, "{change}");
        }
    }
}
