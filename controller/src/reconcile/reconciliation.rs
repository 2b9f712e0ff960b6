//! Brings one object, the broker and the object's finalizer and conditions together.

use std::time::Duration;

use agentwrit_crds::{CONDITION_CA_BUNDLE, CONDITION_TOKEN_SIZE};
use agentwrit_protocol::excerpt::truncate;
use agentwrit_protocol::inject::{ANNOTATION_RELEASE_FINALIZER, FINALIZER};
use agentwrit_protocol::{ErrorCode, PolicyUid, Ttl, UnixSeconds};
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use super::condition::{self, Ready, Reason, Wanted};
use super::policy_resource::PolicyResource;
use super::status::Ids;
use super::{ReconcileError, STATUS_MANAGER, Version};
use crate::context::Context;
use crate::kubernetes_time::second;
use crate::leader::guard::is_not_leading;
use crate::pki::config_maps::MAX_MESSAGE;
use crate::policy_client::{BrokerError, PolicyKey, PolicySpec};
use crate::report::chain;

/// A broker that stays away this long shows in the condition of an object that is being deleted.
const LONG_DELETION: Ttl = Ttl::seconds(600);

/// A status without its `CABundle` condition waits this long for the first look at the namespace's `ConfigMap`.
const CA_WAIT: Duration = Duration::from_secs(3);

/// One object under reconciliation.
pub(super) struct Reconciliation<'a, K> {
    pub(super) object: &'a K,
    pub(super) context: &'a Context,
    pub(super) api: Api<K>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) key: PolicyKey,
}

impl<'a, K: PolicyResource> Reconciliation<'a, K> {
    pub(super) fn new(object: &'a K, context: &'a Context) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        let name = object.name_any();
        Self {
            object,
            context,
            api: Api::namespaced(context.writer.clone(), &namespace),
            key: PolicyKey {
                kind: K::Spec::KIND,
                namespace: namespace.clone(),
                name: name.clone(),
            },
            namespace,
            name,
        }
    }

    pub(super) async fn run(self) -> Result<Action, ReconcileError> {
        if self.context.written.is_ahead_of(self.object.meta(), Instant::now()) {
            // The watch brings us back with what we wrote.
            return Ok(Action::await_change());
        }
        if self.object.meta().deletion_timestamp.is_some() {
            return self.cleanup().await;
        }
        if !self.object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
            // Before the broker hears of it.
            match self.set_finalizers(true).await {
                Ok(true) => {}
                Ok(false) => return Ok(Action::await_change()),
                Err(error) => {
                    self.report_finalizer_error(&error).await?;
                    return Err(error);
                }
            }
        }
        let mut desired = self.object.desired(&self.context.caches);
        let credentials = self.object.converge_credentials(&mut desired, self.context).await;
        let unknown = self.context.broker.unknown_fields(&desired.put.spec);
        let desired = desired.for_broker_without(&unknown);
        let held = if credentials.unknown {
            Err(BrokerError::Unavailable {
                kind: "unknown",
                source: None,
            })
        } else {
            self.context.broker.ensure(&self.key, &desired.put).await
        };
        let (ready, ids, action) = match held {
            Ok(app_id) => {
                self.object.remove_leftovers(&credentials, self.context).await;
                let ids = Ids {
                    app_id: app_id.or(self.object.app_id().map(str::to_owned)),
                    client_id: credentials.client_id(&desired.put.uid),
                };
                (desired.ready, Some(ids), Action::await_change())
            }
            Err(BrokerError::NotLeader) => return Ok(Action::await_change()),
            Err(BrokerError::Stale) => return Ok(Action::requeue(Duration::from_secs(1))),
            // Who has just begun to lead doesn't know what the broker accepted; the status does.
            Err(BrokerError::Unavailable { .. })
                if desired.ready.is_true() && self.says_ready() && self.context.broker.is_away_briefly() =>
            {
                return Ok(Action::await_change());
            }
            // The next refresh of the broker's list brings us back.
            Err(error) => (not_held(&desired.ready, &error), None, Action::await_change()),
        };
        if self.awaits_ca() {
            return Ok(Action::requeue(CA_WAIT));
        }
        let (wanted, kept) = self.wanted(&ready);
        self.write_status(&wanted, kept, ids).await?;
        Ok(action)
    }

    /// Whether the condition says that the broker enforces the present spec.
    fn says_ready(&self) -> bool {
        let present = condition::present(self.object.conditions());
        present.is_some_and(|present| {
            present.status == "True" && present.observed_generation == self.object.meta().generation
        })
    }

    async fn cleanup(self) -> Result<Action, ReconcileError> {
        if !self.object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(Action::await_change());
        }
        let uid = PolicyUid::from(self.object.uid().unwrap_or_default());
        let removed = self
            .context
            .broker
            .remove(&self.key, &uid, self.object.revokes_on_delete())
            .await;
        let error = match removed {
            Ok(()) => {
                if self.reports_who_is_left().await? {
                    return Ok(Action::await_change());
                }
                if let Err(error) = self.set_finalizers(false).await {
                    if !error.is_a_pause() {
                        let message = format!("Deletion waits: {}.", chain(&error));
                        self.report_deleting(&message).await?;
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
            .map_or(UnixSeconds::default(), second);
        let waited = self.context.clock.unix_seconds() - since;
        let mut message = waits(&error, waited);
        if let Some(left) = self.left_behind() {
            message = format!("{message} {left}");
        }
        self.report_deleting(&message).await?;
        Ok(Action::requeue(Duration::from_secs(5)))
    }

    /// Who still needs the object; in a namespace that is being deleted they all go with it.
    fn left_behind(&self) -> Option<String> {
        let left = self.object.left_behind(&self.context.caches);
        left.filter(|_| !self.context.ending.has(&self.namespace))
    }

    /// Whether the status now says who is left without the object, before it goes: an Event tells of it too. Said once, and
    /// nothing waits for it: otherwise whoever makes new ones would keep the object.
    async fn reports_who_is_left(&self) -> Result<bool, ReconcileError> {
        let present = condition::present(self.object.conditions());
        if present.is_some_and(|present| present.reason == Reason::Deleting.as_str()) {
            return Ok(false);
        }
        let Some(left) = self.left_behind() else {
            return Ok(false);
        };
        match self
            .report_deleting(&format!("Its live agents were ended. {left}"))
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.is_a_pause() => Err(error),
            Err(error) => {
                self.context.reporter.error("saying who is left", &error);
                Ok(false)
            }
        }
    }

    async fn report_deleting(&self, message: &str) -> Result<(), ReconcileError> {
        let ready = Ready::new(Reason::Deleting, truncate(message, MAX_MESSAGE));
        let kept = [CONDITION_CA_BUNDLE, CONDITION_TOKEN_SIZE];
        self.write_status(&[Wanted::from(&ready)], &kept, None).await
    }

    /// Nothing is written without the Lease, nor for an object for which a write has just failed.
    pub(super) fn may_write(&self) -> Result<(), ReconcileError> {
        if self.context.leadership.claim().is_none() {
            return Err(ReconcileError::NotLeading);
        }
        match self.context.backoff.rests(&Version::of(self.object)) {
            None => Ok(()),
            Some(_) => Err(ReconcileError::BackingOff {
                namespace: self.namespace.clone(),
                name: self.name.clone(),
            }),
        }
    }

    /// Whether it is so now; otherwise the watch brings us back.
    async fn set_finalizers(&self, present: bool) -> Result<bool, ReconcileError> {
        self.may_write()?;
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
            Ok(answer) => {
                self.context.written.add(&answer.metadata, Instant::now());
                Ok(true)
            }
            // Gone, or changed since.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(false),
            Err(source) if present => Err(self.failed("setting the finalizer of", "FinalizerNotSet", source)),
            Err(source) => Err(self.failed("taking the finalizer off", "FinalizerNotRemoved", source)),
        }
    }

    pub(super) fn failed(&self, doing: &'static str, event: &'static str, source: kube::Error) -> ReconcileError {
        if is_not_leading(&source) {
            return ReconcileError::NotLeading;
        }
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
        // Only the broker knows the ceilings; its sentence names the scopes, the ceiling, and what would be right.
        BrokerError::Refused {
            code: ErrorCode::ScopeViolation,
            detail,
        } => Ready::new(Reason::ScopeExceedsNamespaceCeiling, detail.clone()),
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

/// What the condition says while the broker keeps an object from being deleted.
fn waits(error: &BrokerError, waited: Ttl) -> String {
    let why = match error {
        BrokerError::Refused { detail, .. } => format!("the broker refused to remove the policy: {detail}"),
        BrokerError::Unavailable { .. } | BrokerError::NotLeader | BrokerError::Stale => {
            "the broker can't be reached, and has to hear of it first; as soon as it answers, the object goes"
                .to_owned()
        }
    };
    let way_out = if waited >= LONG_DELETION {
        format!(
            " This has lasted over 10 minutes; the annotation {ANNOTATION_RELEASE_FINALIZER}: \"true\" deletes the object \
             without the broker."
        )
    } else {
        String::new()
    };
    format!("Deletion waits: {why}.{way_out}")
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_namespaces_ceiling_has_a_reason_of_its_own() {
        let sentence = "spec.scopes: write:orders:1: beyond the ceiling of namespace shop";
        let beyond = BrokerError::Refused {
            code: ErrorCode::ScopeViolation,
            detail: sentence.into(),
        };
        let told = not_held(&Ready::new(Reason::Synced, ""), &beyond);
        assert_eq!(told, Ready::new(Reason::ScopeExceedsNamespaceCeiling, sentence));
    }

    #[test]
    fn a_long_deletion_says_how_to_end_it() {
        let message = |seconds| waits(&away(), Ttl::seconds(seconds));
        for short in [i64::MIN, -1, 0, 599] {
            assert!(!message(short).contains("release-finalizer"), "{short}");
        }
        assert!(message(600).contains("agentwrit.io/release-finalizer"));
    }
}
