//! Requests as targets make them, and what holds for every answer.

use std::net::IpAddr;

use agentwrit_protocol::{ErrorCode, Problem};
use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) peer: IpAddr,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            peer: IpAddr::from([127, 0, 0, 1]),
            headers: HeaderMap::new(),
            body: Vec::new(),
        }
    }

    /// Sets a header; one that can't be on the wire is left out.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.append(name.as_bytes(), value.as_bytes());
        self
    }

    pub(crate) fn append(&mut self, name: &[u8], value: &[u8]) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            self.headers.append(name, value);
        }
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// `None` when it can't be on the wire.
    pub(crate) fn build(&self) -> Option<http::Request<Body>> {
        let mut request = http::Request::builder()
            .method(self.method.as_bytes())
            .uri(&self.target);
        request.headers_mut()?.clone_from(&self.headers);
        request.body(Body::from(self.body.clone())).ok()
    }
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What holds for every answer.
    pub(crate) fn check(&self, request: &Request) {
        assert!(self.status < 500, "{request:?}: {self:?}");
        let id = self.header("x-request-id");
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        assert!((1..=128).contains(&id.len()) && id.bytes().all(safe), "{id:?}");
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        // Only public documents may be kept.
        if self.header("cache-control") == "public, max-age=300" {
            assert!(
                matches!(self.status, 200 | 304) && request.target.contains("/.well-known/"),
                "{request:?}: {self:?}"
            );
        } else {
            assert_eq!(self.header("cache-control"), "no-store");
        }
        assert_eq!(self.header("x-frame-options"), "DENY");
        match self.status {
            204 | 304 => assert!(self.body.is_empty()),
            200..300 if self.header("content-type") == "application/json" => drop(self.json()),
            200..300 => assert!(self.header("content-type").starts_with("text/plain"), "{self:?}"),
            307 => self.check_location(),
            400.. => self.check_problem(id),
            _ => panic!("{request:?}: {self:?}"),
        }
    }

    /// A redirect stays on this host.
    fn check_location(&self) {
        let location = self.header("location");
        assert!(location.starts_with('/'), "{location:?}");
        let second = location.as_bytes().get(1);
        assert!(!matches!(second, Some(b'/' | b'\\')), "{location:?}");
    }

    fn check_problem(&self, id: &str) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        let code = ErrorCode::from_text(&problem.error_code).unwrap_or_else(|| panic!("{problem:?}"));
        assert_eq!(code.status(), self.status);
        assert_eq!(problem.status, self.status);
        assert_eq!(problem.type_, format!("urn:agentwrit:error:{code}"));
        assert_eq!(problem.request_id, id);
        assert!(!problem.detail.is_empty());
        assert_eq!(self.headers.contains_key("allow"), self.status == 405);
        assert_eq!(self.headers.contains_key("retry-after"), self.status == 429);
    }
}

/// The statuses that `docs/openapi.json` has for a path; `None` for a path or method that it does not have.
pub(crate) fn statuses(method: &str, path: &str) -> Option<Vec<u16>> {
    thread_local! {
        static DOCUMENT: Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
    }
    // Methods are case-sensitive: `POSt` is none of the document's.
    if !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    DOCUMENT.with(|document| {
        let paths = document["paths"].as_object().unwrap();
        let (_, item) = paths.iter().find(|(template, _)| fits(template, path))?;
        let responses = item[method.to_ascii_lowercase()]["responses"].as_object()?;
        Some(responses.keys().map(|status| status.parse().unwrap()).collect())
    })
}

/// Whether a path is one of a template's, such as `/v1/k8s/pods/{uid}/ended`.
fn fits(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let all = template.split('/').all(|wanted| {
        segments
            .next()
            .is_some_and(|given| wanted == given || (wanted.starts_with('{') && !given.is_empty()))
    });
    all && segments.next().is_none()
}
