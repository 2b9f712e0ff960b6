//! The mutating admission webhook: all replicas serve it from memory.
//!
//! Requests are untrusted: any client that reaches the port may send anything. So only the fields in use are read
//! (`json`), lists are bounded while they are read (`bounds`), and texts are truncated before they go into an answer or
//! a log line (`refusal`).

mod annotations;
mod bounds;
mod inject;
mod inject_label;
mod json;
mod leaf;
mod namespaces;
mod patch;
mod paths;
mod pod;
mod quantity;
mod quotas;
mod refusal;
mod refusal_log;
mod reinvocation;
mod request;
pub(crate) mod resources;
mod review;
mod serve;
mod sidecar_spec;
mod start_gate;
pub(crate) mod tls;
mod volumes;

use std::sync::Arc;

use agentwrit_crds::LaunchToken;
use agentwrit_protocol::Clock;
use agentwrit_protocol::inject::{ANNOTATION_LAUNCH_TOKEN, INJECT_ON, LABEL_INJECT};
use axum::Extension;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};

pub use namespaces::Namespaces;
pub use quotas::CpuQuotas;
pub(crate) use resources::{GuaranteedCpu, Resources};
pub(crate) use serve::ServeError;
pub(crate) use serve::spawn;
pub use sidecar_spec::SidecarSettings;
pub use start_gate::StartGate;

use crate::http::BodyTooLarge;
use crate::metrics::Metrics;
use inject::{Surroundings, inject};
use inject_label::InjectLabel;
use namespaces::Facts;
use pod::Pod;
use refusal::{Refusal, name};
use refusal_log::RefusalLog;
use review::{Decision, Request};

/// The path that the `MutatingWebhookConfiguration` calls.
pub const PATH: &str = "/mutate";
/// What the API server itself accepts as a request.
pub(crate) const MAX_BODY: usize = 3 * 1024 * 1024;

/// What the webhook decides from, all in memory.
pub struct Webhook {
    settings: SidecarSettings,
    release_namespace: String,
    namespaces: Namespaces,
    quotas: Arc<CpuQuotas>,
    launch_tokens: Store<DeserializeGuard<LaunchToken>>,
    refusals: RefusalLog,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The webhook's routes. `http::Routes` limits the body.
pub fn router(webhook: Arc<Webhook>) -> Router {
    Router::new()
        .route(PATH, post(mutate))
        .layer(DefaultBodyLimit::disable())
        .with_state(webhook)
}

async fn mutate(
    State(webhook): State<Arc<Webhook>>,
    too_large: Option<Extension<BodyTooLarge>>,
    body: Bytes,
) -> Response {
    let (outcome, response) = if too_large.is_some() {
        let sentence = format!(
            "the admission review is larger than {MAX_BODY} bytes, which is all that the API server itself takes as a \
             request; make the pod smaller: move environment and files into ConfigMaps\n"
        );
        ("too_large", (StatusCode::PAYLOAD_TOO_LARGE, sentence).into_response())
    } else {
        webhook.review(&body).await
    };
    webhook.metrics.admissions.with_label_values(&[outcome]).inc();
    response
}

impl Webhook {
    /// A webhook that injects by `settings`, never in the release namespace, and warns by `launch_tokens`.
    pub fn new(
        settings: SidecarSettings,
        release_namespace: String,
        namespaces: Namespaces,
        quotas: Arc<CpuQuotas>,
        launch_tokens: Store<DeserializeGuard<LaunchToken>>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            settings,
            release_namespace,
            namespaces,
            quotas,
            launch_tokens,
            refusals: RefusalLog::new(clock),
            metrics,
        }
    }

    async fn review(&self, body: &[u8]) -> (&'static str, Response) {
        let request = match Request::read(body) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("the body is not an AdmissionReview of admission.k8s.io/v1: {error}\n");
                return ("malformed", (StatusCode::BAD_REQUEST, message).into_response());
            }
        };
        let decision = self.decide(&request, body.len()).await;
        let response = match decision.answer(&request.uid) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        };
        (decision.outcome(), response)
    }

    async fn decide(&self, request: &Request<'_>, bytes: usize) -> Decision {
        let namespace = &*request.namespace;
        if !request.is_new_pod() || namespace == self.release_namespace || namespace == "kube-system" {
            return Decision::Ignored;
        }
        let read = || {
            let namespace = request.namespace()?;
            let pod: Pod<'_> = json::read(request.object.0).map_err(Refusal::Malformed)?;
            Ok((namespace, pod))
        };
        let (namespace, pod) = match read() {
            Ok(read) => read,
            Err(refusal) => return self.refused(None, refusal),
        };
        match self.decide_pod(namespace, &pod, bytes).await {
            Ok(decision) => {
                tracing::debug!(namespace, outcome = decision.outcome(), "reviewed a pod");
                decision
            }
            Err(refusal) => self.refused(Some((namespace, &pod)), refusal),
        }
    }

    /// Counts a refusal and logs it, unless too many are logged already.
    fn refused(&self, of: Option<(&str, &Pod<'_>)>, refusal: Refusal) -> Decision {
        let kind = refusal.kind();
        self.metrics.refusals.with_label_values(&[kind]).inc();
        match of {
            Some((namespace, pod)) if refusal.is_plausible() => match self.refusals.admit() {
                Some(left_out) => {
                    let (namespace, pod) = (name(namespace), pod.metadata.shown_name());
                    tracing::info!(namespace, pod, kind, left_out, %refusal, "refused a pod");
                }
                None => self.metrics.refusals_not_logged.inc(),
            },
            _ => tracing::debug!(kind, %refusal, "refused what is probably no pod of this cluster"),
        }
        Decision::Refused(refusal)
    }

    async fn decide_pod(&self, namespace: &str, pod: &Pod<'_>, bytes: usize) -> Result<Decision, Refusal> {
        // The kubelet runs a static pod whatever is answered; refused, its mirror would only vanish from the API.
        if pod.metadata.annotations.mirror {
            return Ok(Decision::Ignored);
        }
        let own = pod.metadata.labels.inject.as_deref();
        let own = own.map(|value| InjectLabel::read(value, "the pod")).transpose()?;
        if own == Some(InjectLabel::Off) {
            return Ok(Decision::Ignored);
        }
        // The API server knows of the namespace's label, or it wouldn't ask about a pod without one: the namespace, its
        // label or its annotation may be newer than the cache.
        let asked =
            |facts: &Facts| own.is_some() || facts.inject.as_deref().is_some_and(|value| INJECT_ON.contains(&value));
        let named = pod.metadata.annotations.get(ANNOTATION_LAUNCH_TOKEN).is_some();
        let enough = |facts: &Facts| asked(facts) && (named || facts.default_launch_token.is_some());
        let Some(facts) = self.namespaces.facts(namespace, bytes, enough).await else {
            return Err(Refusal::NamespaceUnknown(namespace.to_owned()));
        };
        if own.is_none() {
            match &facts.inject {
                Some(value) => {
                    if InjectLabel::read(value, format!("namespace {namespace}"))? == InjectLabel::Off {
                        return Ok(Decision::Ignored);
                    }
                }
                None => {
                    return Ok(Decision::LeftAlone(format!(
                        "neither this pod nor namespace {namespace} has the label {LABEL_INJECT}; AgentWrit leaves the pod alone"
                    )));
                }
            }
        }
        let surroundings = Surroundings {
            default_launch_token: facts.default_launch_token.as_deref(),
            cpu_limit: self.quotas.limit_cpu(namespace),
        };
        let mut injection = inject(pod, surroundings, &self.settings)?;
        injection
            .warnings
            .extend(self.launch_token_warning(&injection.launch_token, namespace, pod));
        Ok(Decision::Injected(injection))
    }

    /// Not a refusal: manifests are applied in any order.
    fn launch_token_warning(&self, launch_token: &str, namespace: &str, pod: &Pod<'_>) -> Option<String> {
        let reference = ObjectRef::<DeserializeGuard<LaunchToken>>::new(launch_token).within(namespace);
        let Some(found) = self.launch_tokens.get(&reference) else {
            return Some(format!(
                "LaunchToken {launch_token} does not exist in namespace {namespace}; the pod's containers wait until it does"
            ));
        };
        let token = found.0.as_ref().ok()?;
        let account = match pod.spec.as_ref().map(|spec| &*spec.service_account_name) {
            None | Some("") => "default",
            Some(account) => account,
        };
        let allowed = &token.spec.service_account_names;
        (!allowed.iter().any(|allowed| allowed == account)).then(|| {
            format!(
                "ServiceAccount {} is not in serviceAccountNames of LaunchToken {launch_token} ({}); the pod's containers wait until it is",
                name(account),
                allowed.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod any_bytes;
#[cfg(test)]
mod tests;
