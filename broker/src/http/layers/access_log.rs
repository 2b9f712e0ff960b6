//! The access log, and the time to answer by endpoint.

use std::time::Duration;

use agentwrit_protocol::Clock;
use axum::response::Response;
use http::{Method, Request, StatusCode, Uri};
use prometheus::HistogramVec;

use super::frame::{Answered, Finish, Step};
use super::paths;

/// The layer.
#[derive(Clone, Copy)]
pub(in crate::http) struct AccessLog<'a> {
    pub(in crate::http) clock: &'a dyn Clock,
    /// `agentwrit_request_duration_seconds`.
    pub(in crate::http) durations: &'a HistogramVec,
}

impl<'a> Step for AccessLog<'a> {
    type Finish = LogAnswer<'a>;

    fn begin<B>(self, request: &mut Request<B>) -> LogAnswer<'a> {
        let answer = LogAnswer {
            with: self,
            started: self.clock.monotonic(),
            method: shown_method(request.method()),
            uri: request.uri().clone(),
        };
        tracing::trace!(
            target: "HTTP",
            component = "access",
            method = %answer.method,
            path = %printable(&paths::shown(answer.uri.path())),
            "request begins"
        );
        answer
    }
}

/// Logs the answer and how long it took.
pub(in crate::http) struct LogAnswer<'a> {
    with: AccessLog<'a>,
    started: Duration,
    method: Method,
    uri: Uri,
}

impl Finish<Answered> for LogAnswer<'_> {
    fn finish(self, answered: Answered) -> Response {
        let Ok(response) = answered;
        let latency = self.with.clock.monotonic().saturating_sub(self.started);
        self.with
            .durations
            .with_label_values(&[endpoint(self.uri.path())])
            .observe(latency.as_secs_f64());
        log(&self.method, &paths::shown(self.uri.path()), response.status(), latency);
        response
    }
}

/// One line a request; those of probes and scrapes that went well only at level trace, for they come every second.
fn log(method: &Method, path: &str, status: StatusCode, latency: Duration) {
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                target: "HTTP",
                $level,
                component = "access",
                method = %method,
                path = %printable(path),
                status = status.as_u16(),
                latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
                "request"
            )
        };
    }
    if status.is_success() && matches!(path, "/livez" | "/readyz" | "/metrics") {
        line!(tracing::Level::TRACE);
    } else {
        line!(tracing::Level::INFO);
    }
}

/// A method for the log and for answers: HTTP lets it be as long as a header block.
pub(in crate::http) fn shown_method(method: &Method) -> Method {
    const LONGEST: usize = 32;
    let cut = method.as_str().get(..LONGEST).map(|start| format!("{start}..."));
    match cut.filter(|_| method.as_str().len() > LONGEST) {
        Some(cut) => Method::from_bytes(cut.as_bytes()).unwrap_or_default(),
        None => method.clone(),
    }
}

/// A path for the log: no control characters, not endless.
pub(super) fn printable(path: &str) -> String {
    path.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// Label of `agentwrit_request_duration_seconds`: a closed set.
fn endpoint(path: &str) -> &'static str {
    match path {
        "/v1/challenge" => "challenge",
        "/v1/register" => "token_issue",
        "/v1/token/validate" => "token_validate",
        "/v1/token/renew" => "token_renew",
        "/v1/token/release" => "token_release",
        "/v1/delegate" => "delegate",
        "/v1/revoke" => "revoke",
        "/v1/admin/revoke-matching" => "revoke_matching",
        "/v1/admin/auth" => "admin_auth",
        "/v1/admin/launch-tokens" => "admin_launch_tokens",
        "/v1/admin/apps" => "admin_apps",
        "/v1/app/auth" => "app_auth",
        "/v1/app/launch-tokens" => "app_launch_tokens",
        "/v1/health" => "health",
        "/v1/metrics" | "/metrics" => "metrics",
        "/v1/audit/events" => "audit_events",
        "/.well-known/jwks.json" => "jwks",
        "/.well-known/openid-configuration" => "discovery",
        "/openapi.json" => "openapi",
        "/livez" | "/readyz" => "probes",
        other if other.starts_with("/v1/admin/apps/") => "admin_apps",
        other if other.starts_with("/v1/admin/keys") => "admin_keys",
        other => other.strip_prefix("/v1/k8s/").map_or("other", k8s_endpoint),
    }
}

/// The same of the Kubernetes API, so that what a controller costs can be counted.
fn k8s_endpoint(path: &str) -> &'static str {
    match path {
        "mark" => "k8s_mark",
        "policies" => "k8s_policies",
        "launch-tokens" => "k8s_launch_tokens",
        "denials" => "k8s_denials",
        "signing-keys" => "k8s_signing_keys",
        other if other.starts_with("policies/") => "k8s_policy",
        other if other.starts_with("pods/") => "k8s_pods",
        _ => "k8s",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_method_is_cut() {
        let long = Method::from_bytes("A".repeat(900_000).as_bytes()).unwrap();
        assert_eq!(shown_method(&long).as_str(), format!("{}...", "A".repeat(32)));
        assert_eq!(shown_method(&Method::GET), Method::GET);
    }
}
