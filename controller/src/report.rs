//! The one place where an error becomes a log line, a metric and an Event.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::error_chain;
use agentwrit_protocol::excerpt::truncate;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter as EventReporter};

use crate::backoff::Backoff;
use crate::ending_namespaces;
use crate::leader::guard::is_not_leading;
use crate::metrics::Metrics;

/// Nothing waits longer for an Event than this.
const EVENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Who reports, in Events.
const CONTROLLER: &str = "agentwrit-controller";

/// Bytes of an Event's note: 1 KiB is its bound.
const MAX_NOTE: usize = 1000;
/// Characters of an Event's action.
const MAX_ACTION: usize = 128;

/// What an error is about; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    /// The API server refused or didn't answer.
    Kubernetes,
    /// The broker refused or didn't answer.
    Broker,
    /// An object doesn't have the form of its kind.
    MalformedObject,
    /// An object that we need has another owner.
    NotOurs,
    Pki,
    Lease,
    /// A stop for safety.
    Safety,
}

impl Category {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Broker => "broker",
            Self::MalformedObject => "malformed_object",
            Self::NotOurs => "not_ours",
            Self::Pki => "pki",
            Self::Lease => "lease",
            Self::Safety => "safety",
        }
    }
}

/// An error that knows what it is about.
pub(crate) trait Categorised: std::error::Error + Send + Sync + 'static {
    /// What it is about.
    fn category(&self) -> Category;
}

/// Turns errors and state changes into log lines, metrics and Events.
#[derive(Clone)]
pub struct Reporter {
    recorder: Recorder,
    /// For Events on the objects of users.
    leaders: Recorder,
    metrics: Arc<Metrics>,
    own: ObjectReference,
    reported: Arc<Backoff<Recurring>>,
}

/// A problem that may come back at every try: its reason, and the object that it concerns.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Recurring {
    reason: &'static str,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

impl Recurring {
    fn new(reason: &'static str, object: &ObjectReference) -> Self {
        Self {
            reason,
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        }
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").finish_non_exhaustive()
    }
}

impl Reporter {
    /// A reporter whose Events name `pod_name` as the reporting instance; what concerns no object of a user is
    /// reported on that pod, in `namespace`.
    pub fn new(client: Client, namespace: &str, pod_name: &str, metrics: Arc<Metrics>) -> Self {
        let reporter = EventReporter {
            controller: CONTROLLER.into(),
            instance: Some(pod_name.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter.clone()),
            leaders: Recorder::new(client, reporter),
            metrics,
            own: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                namespace: Some(namespace.to_owned()),
                name: Some(pod_name.to_owned()),
                ..ObjectReference::default()
            },
            reported: Arc::default(),
        }
    }

    /// From now on Events on the objects of users are written by this client.
    pub(crate) fn writing_by(mut self, client: Client) -> Self {
        let reporter = EventReporter {
            controller: CONTROLLER.into(),
            instance: self.own.name.clone(),
        };
        self.leaders = Recorder::new(client, reporter);
        self
    }

    /// The controller's own pod.
    pub(crate) fn own(&self) -> &ObjectReference {
        &self.own
    }

    /// Counts an error that may come at every try. It is logged and becomes a Warning Event on `object` at once, then
    /// after a second, then after growing pauses of at most 5 minutes, until [`Reporter::recovered`].
    pub(crate) async fn recurring(
        &self,
        doing: &str,
        reason: &'static str,
        error: &dyn Categorised,
        object: &ObjectReference,
    ) {
        let problem = Recurring::new(reason, object);
        if self.reported.rests(&problem).is_some() {
            self.count(error);
            return;
        }
        self.reported.failed(problem);
        self.error_on(doing, reason, error, object).await;
    }

    /// [`Reporter::recurring`] that concerns no object of a user: the Event is on the controller's own pod.
    pub(crate) async fn own_recurring(&self, doing: &str, reason: &'static str, error: &dyn Categorised) {
        self.recurring(doing, reason, error, &self.own).await;
    }

    /// What [`Reporter::recurring`] reported is over: the next one is reported at once.
    pub(crate) fn recovered(&self, reason: &'static str, object: &ObjectReference) -> bool {
        self.reported.done(&Recurring::new(reason, object))
    }

    /// [`Reporter::recovered`] for the controller's own pod.
    pub(crate) fn own_recovered(&self, reason: &'static str) {
        if self.recovered(reason, &self.own) {
            tracing::info!(reason, "the error no longer occurs");
        }
    }

    fn count(&self, error: &dyn Categorised) {
        self.metrics
            .errors
            .with_label_values(&[error.category().as_str()])
            .inc();
    }

    /// Logs and counts an error.
    pub(crate) fn error(&self, doing: &str, error: &dyn Categorised) {
        self.count(error);
        let category = error.category().as_str();
        tracing::warn!(category, error = chain(error), "{doing} failed");
    }

    /// Logs and counts an error, and writes a Warning Event on `object`.
    pub(crate) async fn error_on(&self, doing: &str, reason: &str, error: &dyn Categorised, object: &ObjectReference) {
        self.error(doing, error);
        self.event(EventType::Warning, reason, "Reconcile", &chain(error), object)
            .await;
    }

    /// Writes an Event; repeated ones are counted up in one object. Returns whether it was written, or
    /// its object is gone.
    pub(crate) async fn event(
        &self,
        type_: EventType,
        reason: &str,
        action: &str,
        note: &str,
        object: &ObjectReference,
    ) -> bool {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(truncate(note, MAX_NOTE).into_owned()),
            action: truncate(action, MAX_ACTION).into_owned(),
            secondary: None,
        };
        let recorder = if *object == self.own {
            &self.recorder
        } else {
            &self.leaders
        };
        let Ok(published) = tokio::time::timeout(EVENT_TIMEOUT, recorder.publish(&event, object)).await else {
            tracing::warn!(reason, object = object.name, "writing an Event took too long");
            return false;
        };
        let Err(error) = published else {
            return true;
        };
        if is_not_leading(&error) {
            return false;
        }
        if gone(&error) {
            tracing::debug!(
                reason,
                object = object.name,
                "an Event was not written: its namespace is going away"
            );
            return true;
        }
        self.metrics
            .errors
            .with_label_values(&[Category::Kubernetes.as_str()])
            .inc();
        tracing::warn!(
            reason,
            object = object.name,
            error = sentence(&error).unwrap_or_else(|| error_chain(&error)),
            "writing an Event failed"
        );
        false
    }
}

/// Whether the Event's namespace goes away, or the Event that was to be counted up did.
fn gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404) || ending_namespaces::is_refusal(error)
}

/// The messages of an error and its sources on one line; of the API server's answer, its sentence alone.
pub(crate) fn chain(error: &dyn Categorised) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let boxed = inner.downcast_ref::<Box<kube::Error>>().map(|error| &**error);
        let sentence = boxed.or_else(|| inner.downcast_ref()).and_then(sentence);
        let is_last = sentence.is_some();
        let inner_text = sentence.unwrap_or_else(|| inner.to_string());
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source().filter(|_| !is_last);
    }
    text
}

/// What the API server answered, in its words.
fn sentence(error: &kube::Error) -> Option<String> {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => Some(status.message.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("writing it failed")]
    struct Refused(#[source] Box<kube::Error>);

    impl Categorised for Refused {
        fn category(&self) -> Category {
            Category::Kubernetes
        }
    }

    #[test]
    fn an_api_servers_refusal_is_shown_by_its_message() {
        let quota = "configmaps \"agentwrit-ca\" is forbidden: exceeded quota: small";
        let status: kube::core::Status = serde_json::from_value(
            serde_json::json!({"status": "Failure", "message": quota, "reason": "Forbidden",
                "code": 403}),
        )
        .unwrap();
        let error = Refused(Box::new(kube::Error::Api(Box::new(status))));
        assert_eq!(chain(&error), format!("writing it failed: {quota}"));
    }
}
