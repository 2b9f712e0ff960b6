//! What the webhook knows of namespaces: from the watch alone, which may be a moment behind the API server.

use std::time::Duration;

use agentwrit_protocol::inject::{ANNOTATION_DEFAULT_LAUNCH_TOKEN, LABEL_INJECT};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::{Semaphore, watch};

/// How long a request waits for the watch. The webhook itself is given five seconds.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// Bodies of requests that wait, together.
const WAITING_KIB: usize = 8 * 1024;
/// What a waiting request counts at least, so that their number is bounded too: 128.
const LEAST_KIB: usize = 64;

/// What matters of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The label that asks for injection.
    pub(crate) inject: Option<String>,
    /// The annotation that names the `LaunchToken` of pods that name none.
    pub(crate) default_launch_token: Option<String>,
}

/// All namespaces, as the watch brings them.
#[derive(Debug)]
pub struct Namespaces {
    store: Store<PartialObjectMeta<Namespace>>,
    applied: watch::Receiver<()>,
    waiting: Semaphore,
}

impl Namespaces {
    /// The namespaces of `store`; `applied` hears after each change of it.
    pub fn new(store: Store<PartialObjectMeta<Namespace>>, applied: watch::Receiver<()>) -> Self {
        Self {
            store,
            applied,
            waiting: Semaphore::new(WAITING_KIB),
        }
    }

    fn now(&self, name: &str) -> Option<Facts> {
        let found = self.store.get(&ObjectRef::new(name))?;
        Some(Facts {
            inject: found.labels().get(LABEL_INJECT).cloned(),
            default_launch_token: found.annotations().get(ANNOTATION_DEFAULT_LAUNCH_TOKEN).cloned(),
        })
    }

    /// What is known of a namespace; waits a moment while it is unknown, or not `enough`, for a request of this many
    /// bytes. When too many wait already, the answer comes at once.
    pub(crate) async fn facts(&self, name: &str, bytes: usize, enough: impl Fn(&Facts) -> bool) -> Option<Facts> {
        let mut applied = self.applied.clone();
        // Before the look, so that no change between look and wait is missed.
        applied.mark_unchanged();
        let known = self.now(name);
        if known.as_ref().is_some_and(&enough) {
            return known;
        }
        let kib = (bytes / 1024).clamp(LEAST_KIB, WAITING_KIB);
        let Ok(_place) = self.waiting.try_acquire_many(u32::try_from(kib).unwrap_or(u32::MAX)) else {
            return known;
        };
        let brought = async {
            while applied.changed().await.is_ok() {
                if self.now(name).as_ref().is_some_and(&enough) {
                    return;
                }
            }
        };
        // Whether it came or not: what is known now decides.
        let _ = tokio::time::timeout(MAX_WAIT, brought).await;
        self.now(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::reflector;
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::watcher::Event;
    use serde_json::json;
    use std::sync::Arc;
    use tokio::time::Instant;

    struct Watch {
        writer: Writer<PartialObjectMeta<Namespace>>,
        applied: watch::Sender<()>,
    }

    impl Watch {
        fn new() -> (Self, Arc<Namespaces>) {
            let (store, writer) = reflector::store();
            let (applied, changes) = watch::channel(());
            (Self { writer, applied }, Arc::new(Namespaces::new(store, changes)))
        }

        fn brings(&mut self, name: &str, default: Option<&str>) {
            let annotations = default.map(|default| json!({ANNOTATION_DEFAULT_LAUNCH_TOKEN: default}));
            let namespace = json!({"metadata": {
                "name": name, "labels": {"agentwrit.io/inject": "enabled"}, "annotations": annotations,
            }});
            let namespace = serde_json::from_value(namespace).unwrap();
            self.writer.apply_watcher_event(&Event::Apply(namespace));
            self.applied.send_replace(());
        }
    }

    fn has_default(facts: &Facts) -> bool {
        facts.default_launch_token.is_some()
    }

    async fn settled() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_known_namespace_is_answered_at_once() {
        let (mut watch, namespaces) = Watch::new();
        watch.brings("shop", Some("common"));
        let start = Instant::now();
        let facts = namespaces.facts("shop", 1000, has_default).await.unwrap();
        assert_eq!(facts.inject.as_deref(), Some("enabled"));
        assert_eq!(facts.default_launch_token.as_deref(), Some("common"));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_namespace_is_waited_for() {
        let (mut watch, namespaces) = Watch::new();
        let waits = Arc::clone(&namespaces);
        let waiting = tokio::spawn(async move { waits.facts("shop", 1000, has_default).await });
        settled().await;
        watch.brings("other", Some("x"));
        watch.brings("shop", None);
        settled().await;
        assert!(!waiting.is_finished(), "not enough is known yet");
        watch.brings("shop", Some("common"));
        settled().await;
        assert!(waiting.is_finished(), "the watch ends the wait, no timer");
        assert!(has_default(&waiting.await.unwrap().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_after_a_second() {
        let (mut watch, namespaces) = Watch::new();
        let start = Instant::now();
        assert_eq!(namespaces.facts("unknown", 1000, |_| true).await, None);
        assert_eq!(start.elapsed(), MAX_WAIT);
        watch.brings("shop", None);
        let facts = namespaces.facts("shop", 1000, has_default).await;
        assert_eq!(facts.unwrap().default_launch_token, None, "what is known then decides");
        assert_eq!(start.elapsed(), 2 * MAX_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_requests_are_bounded_in_number_and_bytes() {
        let (_watch, namespaces) = Watch::new();
        for (bytes, places) in [(1000, 128), (3 * 1024 * 1024, 2), (usize::MAX, 1)] {
            let wait = || {
                let namespaces = Arc::clone(&namespaces);
                tokio::spawn(async move { namespaces.facts("unknown", bytes, |_| true).await })
            };
            let waiting: Vec<_> = (0..places).map(|_| wait()).collect();
            settled().await;
            let start = Instant::now();
            assert_eq!(wait().await.unwrap(), None);
            assert_eq!(start.elapsed(), Duration::ZERO, "one more is answered at once");
            for waiting in waiting {
                assert_eq!(waiting.await.unwrap(), None);
            }
            assert_eq!(start.elapsed(), MAX_WAIT);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watch_no_request_waits() {
        let (watch, namespaces) = Watch::new();
        drop(watch);
        let start = Instant::now();
        assert_eq!(namespaces.facts("unknown", 1000, |_| true).await, None);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
