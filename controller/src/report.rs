//! The one place where an error becomes a log line, a metric and an Event.

use std::sync::Arc;

use agentwrit_client::error_chain;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter as EventReporter};

use crate::metrics::Metrics;

/// What an error is about; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// The API server refused or didn't answer.
    Kubernetes,
    /// The broker refused or didn't answer.
    Broker,
    /// An object doesn't have the form of its kind.
    MalformedObject,
    /// An object that we need has another owner.
    NotOurs,
    /// Keys and certificates.
    Pki,
    /// The Lease.
    Lease,
    /// A stop for safety.
    Safety,
    /// A listener.
    Listener,
    /// A part of the controller itself.
    Internal,
}

impl Category {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Broker => "broker",
            Self::MalformedObject => "malformed_object",
            Self::NotOurs => "not_ours",
            Self::Pki => "pki",
            Self::Lease => "lease",
            Self::Safety => "safety",
            Self::Listener => "listener",
            Self::Internal => "internal",
        }
    }
}

/// An error that knows what it is about.
pub trait Categorised: std::error::Error + Send + Sync + 'static {
    /// What it is about.
    fn category(&self) -> Category;
}

/// Turns errors and state changes into log lines, metrics and Events.
#[derive(Clone)]
pub struct Reporter {
    recorder: Recorder,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").finish_non_exhaustive()
    }
}

impl Reporter {
    /// A reporter whose Events name `pod_name` as the reporting instance.
    pub fn new(client: Client, pod_name: &str, metrics: Arc<Metrics>) -> Self {
        let reporter = EventReporter {
            controller: "agentwrit-controller".into(),
            instance: Some(pod_name.to_owned()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            metrics,
        }
    }

    /// Logs and counts an error.
    pub fn error(&self, doing: &str, error: &dyn Categorised) {
        let category = error.category().as_str();
        self.metrics.errors.with_label_values(&[category]).inc();
        tracing::warn!(category, error = chain(error), "{doing} failed");
    }

    /// Logs and counts an error, and tells of it in a Warning Event on `object`.
    pub async fn error_on(&self, doing: &str, reason: &str, error: &dyn Categorised, object: &ObjectReference) {
        self.error(doing, error);
        self.event(EventType::Warning, reason, "Reconcile", &chain(error), object)
            .await;
    }

    /// Writes an Event; repeated ones are counted up in one object.
    pub async fn event(&self, type_: EventType, reason: &str, action: &str, note: &str, object: &ObjectReference) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shorten(note, 1000)),
            action: shorten(action, 128),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, object).await {
            if gone(&error) {
                tracing::debug!(reason, object = object.name, "nobody is left to read an Event");
                return;
            }
            self.metrics
                .errors
                .with_label_values(&[Category::Kubernetes.as_str()])
                .inc();
            tracing::warn!(
                reason,
                object = object.name,
                error = error_chain(&error),
                "writing an Event failed"
            );
        }
    }
}

/// Whether the Event's namespace goes away, or the Event that was to be counted up did.
fn gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if status.code == 404 || (status.code == 403 && status.message.contains("being terminated")))
}

fn chain(error: &dyn Categorised) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

/// At most `max` bytes of `text`: an Event's note holds 1 KiB, its action 128 characters.
fn shorten(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_cut_at_a_character() {
        assert_eq!(shorten("short", 10), "short");
        let cut = shorten(&"ä".repeat(600), 1000);
        assert!(cut.len() <= 1000 && cut.ends_with('…'), "{}", cut.len());
    }
}
