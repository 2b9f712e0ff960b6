//! Watches feed the caches; what changed goes to the queues.

use std::collections::HashSet;
use std::sync::Arc;

use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::error_chain;
use agentwrit_protocol::inject::{ANNOTATION_DEFAULT_LAUNCH_TOKEN, CA_CONFIG_MAP, LABEL_INJECT};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, store::Writer};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::watch;

use crate::context::Context;
use crate::metrics::Metrics;
use crate::pki::ca_distribution::CaEvent;
use crate::reconcile::policy_resource::PolicyResource;
use crate::report::Category;

/// Custom resources in one page of a list: a page is read as a whole.
const PAGE: u32 = 200;

/// Fills the cache of namespaces with what the webhook reads, and notifies `applied` after each change; runs for ever.
pub(crate) async fn namespaces(
    client: Client,
    writer: Writer<PartialObjectMeta<Namespace>>,
    applied: watch::Sender<()>,
    metrics: Arc<Metrics>,
) {
    let stream = watcher(
        Api::<PartialObjectMeta<Namespace>>::all(client),
        watcher::Config::default(),
    )
    .default_backoff()
    .modify(keep_what_the_webhook_reads)
    .reflect(writer);
    for_each_event(stream, "namespaces", metrics, |_| applied.send_replace(())).await;
}

/// One label and one annotation; the others may be of any length.
fn keep_what_the_webhook_reads(namespace: &mut PartialObjectMeta<Namespace>) {
    strip(namespace);
    namespace.labels_mut().retain(|key, _| key == LABEL_INJECT);
    namespace
        .annotations_mut()
        .retain(|key, _| key == ANNOTATION_DEFAULT_LAUNCH_TOKEN);
}

/// Fills the cache of `AgentApp`s; asks for each that changed, and for its `LaunchToken`s. Runs for ever.
pub(super) async fn apps(context: Arc<Context>, writer: Writer<DeserializeGuard<AgentApp>>) {
    let (apps, launch_tokens, caches) = (&context.apps, &context.launch_tokens, &context.caches);
    let stream = custom_resources::<AgentApp>(&context, writer, |_| {});
    for_each_event(stream, "agentapps", Arc::clone(&context.metrics), |event| match event {
        Event::Apply(app) | Event::Delete(app) => {
            apps.add(ObjectRef::from_obj(app));
            let namespace = app.namespace().unwrap_or_default();
            for token in caches.launch_tokens_of(&namespace, &app.name_any()) {
                launch_tokens.add(token);
            }
        }
        Event::InitDone => {
            apps.add_all(&caches.apps);
            launch_tokens.add_all(&caches.launch_tokens);
        }
        Event::Init | Event::InitApply(_) => {}
    })
    .await;
}

/// Fills the cache of `LaunchToken`s; asks for each that changed, and for the CA in its namespace. Runs for ever.
pub(super) async fn launch_tokens(context: Arc<Context>, writer: Writer<DeserializeGuard<LaunchToken>>) {
    let (queue, caches) = (&context.launch_tokens, &context.caches);
    let stream = custom_resources(&context, writer, |event| caches.tokens_by_app.observe(event));
    let want = |token: &DeserializeGuard<LaunchToken>| context.needs_ca(token.namespace().unwrap_or_default());
    for_each_event(
        stream,
        "launchtokens",
        Arc::clone(&context.metrics),
        |event| match event {
            Event::Apply(token) => {
                want(token);
                queue.add(ObjectRef::from_obj(token));
            }
            Event::InitApply(token) => want(token),
            Event::InitDone => queue.add_all(&context.caches.launch_tokens),
            Event::Init | Event::Delete(_) => {}
        },
    )
    .await;
}

/// Sees each `ConfigMap` with the CA that is changed or deleted, and which there are. Runs for ever.
pub(super) async fn ca_config_maps(context: Arc<Context>) {
    let config = watcher::Config::default().fields(&format!("metadata.name={CA_CONFIG_MAP}"));
    let stream = watcher(Api::<PartialObjectMeta<ConfigMap>>::all(context.client.clone()), config).default_backoff();
    let mut listed = HashSet::new();
    for_each_event(stream, "configmaps", Arc::clone(&context.metrics), |event| {
        let ca_event = match event {
            Event::Apply(found) | Event::Delete(found) => CaEvent::Changed(found.namespace().unwrap_or_default()),
            Event::Init => {
                listed.clear();
                return;
            }
            Event::InitApply(found) => {
                listed.insert(found.namespace().unwrap_or_default());
                return;
            }
            Event::InitDone => CaEvent::Listed(std::mem::take(&mut listed)),
        };
        // The receiver is gone only when the process ends.
        let _ = context.ca_events.send(ca_event);
    })
    .await;
}

/// The cache is filled after `first` has seen the event, so that what `first` keeps is never behind.
fn custom_resources<'a, K: PolicyResource>(
    context: &'a Context,
    writer: Writer<DeserializeGuard<K>>,
    first: impl Fn(&Event<DeserializeGuard<K>>) + 'a,
) -> impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + 'a {
    let api: Api<DeserializeGuard<K>> = Api::all(context.client.clone());
    watcher(api, watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .modify(keep_what_is_ours)
        .inspect(move |event| {
            if let Ok(event) = event {
                first(event);
            }
        })
        .reflect(writer)
}

/// Removes what nothing here reads, and what is often the larger part of an object.
pub(crate) fn strip<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// Labels and annotations of others may be of any length.
fn keep_what_is_ours<K: Resource>(object: &mut K) {
    strip(object);
    let is_ours = |key: &str| key.starts_with("agentwrit.io/");
    object.labels_mut().retain(|key, _| is_ours(key));
    object.annotations_mut().retain(|key, _| is_ours(key));
}

/// Hands each event on; counts and logs failures, which the stream itself gets over.
pub(crate) async fn for_each_event<K>(
    stream: impl Stream<Item = watcher::Result<Event<K>>>,
    what: &'static str,
    metrics: Arc<Metrics>,
    mut handle: impl FnMut(&Event<K>),
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => handle(&event),
            Err(error) => {
                metrics.errors.with_label_values(&[Category::Kubernetes.as_str()]).inc();
                tracing::warn!(
                    watch = what,
                    error = error_chain(&error),
                    "a watch was interrupted; it starts again"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_and_annotations_of_others_are_not_kept() {
        let mut token: DeserializeGuard<LaunchToken> = serde_json::from_value(json!({"metadata": {
            "name": "reader", "labels": {"team": "shop"}, "managedFields": [{"manager": "kubectl"}],
            "annotations": {"agentwrit.io/release-finalizer": "true", "notes": "long"},
        }}))
        .unwrap();
        keep_what_is_ours(&mut token);
        assert_eq!(
            token.annotations().keys().collect::<Vec<_>>(),
            ["agentwrit.io/release-finalizer"]
        );
        assert!(token.labels().is_empty() && token.managed_fields().is_empty());
    }

    #[test]
    fn only_one_label_and_annotation_of_a_namespace_are_kept() {
        let mut namespace: PartialObjectMeta<Namespace> = serde_json::from_value(json!({"metadata": {
            "name": "shop",
            "labels": {"agentwrit.io/inject": "enabled", "other": "x"},
            "annotations": {"agentwrit.io/default-launch-token": "common", "notes": "long"},
            "managedFields": [{"manager": "kubectl"}],
        }}))
        .unwrap();
        keep_what_the_webhook_reads(&mut namespace);
        let metadata = serde_json::to_value(&namespace.metadata).unwrap();
        let expected = json!({
            "name": "shop",
            "labels": {"agentwrit.io/inject": "enabled"},
            "annotations": {"agentwrit.io/default-launch-token": "common"},
        });
        assert_eq!(metadata, expected);
    }
}
