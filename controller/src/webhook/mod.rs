//! The mutating admission webhook: all replicas serve it from memory.

pub mod inject;
pub mod injected;
pub mod patch;
pub mod refusal;
pub mod request;
pub mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_crds::LaunchToken;
use agentwrit_protocol::inject::LABEL_INJECT;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use kube::core::{DeserializeGuard, DynamicObject, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};

pub use injected::SidecarSettings;
pub use refusal::Refusal;

use crate::metrics::Metrics;
use inject::{Injection, inject};

/// The path that the `MutatingWebhookConfiguration` calls.
pub const PATH: &str = "/mutate";
/// An admission review holds an object of at most 1.5 MiB, perhaps twice.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// Asking the API server about a namespace must leave time within the webhook's own five seconds.
const NAMESPACE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the webhook decides from.
pub struct Webhook {
    /// The sidecar's settings.
    pub settings: SidecarSettings,
    /// The release namespace, whose pods are never touched.
    pub release_namespace: String,
    /// All namespaces.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// All `LaunchToken`s, for warnings.
    pub launch_tokens: Store<DeserializeGuard<LaunchToken>>,
    /// For namespaces that are newer than the cache.
    pub client: Client,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The webhook's routes.
pub fn router(webhook: Arc<Webhook>) -> Router {
    Router::new()
        .route(PATH, post(mutate))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(webhook)
}

async fn mutate(State(webhook): State<Arc<Webhook>>, body: Bytes) -> Response {
    let request: Result<AdmissionRequest<DynamicObject>, String> = serde_json::from_slice::<AdmissionReview<_>>(&body)
        .map_err(|error| error.to_string())
        .and_then(|review| review.try_into().map_err(|_| "it has no request".to_owned()));
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            webhook.metrics.admissions.with_label_values(&["malformed"]).inc();
            let message = format!("the body is not an AdmissionReview of admission.k8s.io/v1: {error}");
            return (StatusCode::BAD_REQUEST, message).into_response();
        }
    };
    let (response, outcome) = webhook.review(&request).await;
    webhook.metrics.admissions.with_label_values(&[outcome]).inc();
    match serde_json::to_vec(&response.into_review()) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Webhook {
    async fn review(&self, request: &AdmissionRequest<DynamicObject>) -> (AdmissionResponse, &'static str) {
        let response = AdmissionResponse::from(request);
        let namespace = request.namespace.clone().unwrap_or_default();
        let is_new_pod = request.operation == Operation::Create
            && request.resource.resource == "pods"
            && request.sub_resource.as_deref().unwrap_or_default().is_empty();
        if !is_new_pod || namespace == self.release_namespace || namespace == "kube-system" {
            return (response, "ignored");
        }
        match self.decide(request, &namespace).await {
            Ok(None) => (response, "ignored"),
            Ok(Some(injection)) => {
                let outcome = if injection.patch.is_empty() {
                    "unchanged"
                } else {
                    "injected"
                };
                tracing::debug!(
                    namespace,
                    launch_token = injection.launch_token,
                    outcome,
                    "reviewed a pod"
                );
                (with_injection(response, injection), outcome)
            }
            Err(refusal) => {
                tracing::info!(namespace, name = request.name, kind = refusal.kind(), %refusal, "refused a pod");
                (response.deny(&refusal), "refused")
            }
        }
    }

    async fn decide(
        &self,
        request: &AdmissionRequest<DynamicObject>,
        namespace: &str,
    ) -> Result<Option<Injection>, Refusal> {
        let object = request
            .object
            .clone()
            .ok_or_else(|| Refusal::Malformed("it has no object".into()))?;
        if object.labels().get(LABEL_INJECT).map(String::as_str) == Some("false") {
            return Ok(None);
        }
        let pod: Pod = object
            .try_parse()
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let cached = self
            .namespaces
            .get(&ObjectRef::new(namespace))
            .map(|found| found.annotations().clone());
        let mut injection = match cached.map(|annotations| inject(&pod, &annotations, &self.settings)) {
            // The namespace, or its annotation, may be newer than the cache.
            None | Some(Err(Refusal::NoLaunchToken)) => {
                let annotations = self.fresh_annotations(namespace).await?;
                inject(&pod, &annotations, &self.settings)?
            }
            Some(decided) => decided?,
        };
        injection
            .warnings
            .extend(self.launch_token_warning(&injection.launch_token, namespace, &pod));
        Ok(Some(injection))
    }

    async fn fresh_annotations(&self, namespace: &str) -> Result<BTreeMap<String, String>, Refusal> {
        let unknown = || Refusal::NamespaceUnknown(namespace.to_owned());
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = tokio::time::timeout(NAMESPACE_TIMEOUT, api.get_metadata(namespace)).await;
        let found = found.map_err(|_| unknown())?.map_err(|_| unknown())?;
        Ok(found.annotations().clone())
    }

    /// Not a refusal: manifests are applied in any order.
    fn launch_token_warning(&self, name: &str, namespace: &str, pod: &Pod) -> Option<String> {
        let reference = ObjectRef::<DeserializeGuard<LaunchToken>>::new(name).within(namespace);
        let Some(found) = self.launch_tokens.get(&reference) else {
            return Some(format!(
                "LaunchToken {name} does not exist in namespace {namespace}; the pod's containers wait until it does"
            ));
        };
        let token = found.0.as_ref().ok()?;
        let account = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.as_deref())
            .filter(|name| !name.is_empty())
            .unwrap_or("default");
        let allowed = &token.spec.service_account_names;
        (!allowed.iter().any(|name| name == account)).then(|| {
            format!(
                "ServiceAccount {account} is not in serviceAccountNames of LaunchToken {name} ({}); the pod's containers wait until it is",
                allowed.join(", ")
            )
        })
    }
}

fn with_injection(mut response: AdmissionResponse, injection: Injection) -> AdmissionResponse {
    if !injection.warnings.is_empty() {
        response.warnings = Some(injection.warnings);
    }
    if injection.patch.is_empty() {
        return response;
    }
    let patch = serde_json::from_value(serde_json::Value::Array(injection.patch));
    match patch.map(|patch| response.clone().with_patch(patch)) {
        Ok(Ok(patched)) => patched,
        Ok(Err(error)) => response.deny(error),
        Err(error) => response.deny(error),
    }
}
