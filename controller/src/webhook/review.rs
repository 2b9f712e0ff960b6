//! The admission review: what is read of the request, and the answer.

use agentwrit_protocol::dns_label::{MAX_LABEL_BYTES, is_dns_label};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::inject::Injection;
use super::json::{Raw, Text, object, read};
use super::refusal::{Refusal, quoted};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// The API server sends a UUID of 36.
const MAX_UID: usize = 64;

object! {
    Review<'a> {
        api_version: Text<'a> = "apiVersion",
        kind: Text<'a> = "kind",
        request: Option<Request<'a>> = "request",
    }

    /// Its request. The object's own name and namespace may be empty.
    Request<'a> {
        uid: Text<'a> = "uid",
        operation: Text<'a> = "operation",
        resource: Resource<'a> = "resource",
        sub_resource: Text<'a> = "subResource",
        namespace: Text<'a> = "namespace",
        object: Raw<'a> = "object",
    }

    /// A resource of the API.
    Resource<'a> { group: Text<'a> = "group", resource: Text<'a> = "resource" }
}

impl<'a> Request<'a> {
    /// Reads the request of a review.
    ///
    /// What makes the body no admission review that can be answered.
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, String> {
        let review: Review<'_> = read(body)?;
        for (field, found, right) in [
            ("apiVersion", &review.api_version, API_VERSION),
            ("kind", &review.kind, KIND),
        ] {
            if *found != right {
                return Err(format!("{field} is {}; it must be {right:?}", quoted(found)));
            }
        }
        let request = review.request.ok_or("it has no request")?;
        let usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !(1..=MAX_UID).contains(&request.uid.len()) || !request.uid.bytes().all(usual) {
            let found = quoted(&request.uid);
            return Err(format!(
                "request.uid is {found}; it must be 1 to {MAX_UID} letters, digits and '-'"
            ));
        }
        Ok(request)
    }

    /// Whether a pod is created.
    pub(crate) fn is_new_pod(&self) -> bool {
        self.operation == "CREATE"
            && self.resource.group.is_empty()
            && self.resource.resource == "pods"
            && self.sub_resource.is_empty()
    }

    /// The namespace of the object.
    ///
    /// Fails when it can't be one.
    pub(crate) fn namespace(&self) -> Result<&str, Refusal> {
        if is_dns_label(&self.namespace, MAX_LABEL_BYTES) {
            return Ok(&self.namespace);
        }
        let found = quoted(&self.namespace);
        Err(Refusal::Malformed(format!(
            "request.namespace is {found}; it must be the name of a namespace"
        )))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
}

#[derive(Serialize)]
struct Status {
    message: String,
}

/// What is answered about a pod.
#[derive(Debug)]
pub(crate) enum Decision {
    Ignored,
    /// The pod is left alone, with a warning to its author.
    LeftAlone(String),
    /// The pod is given, or has, what it needs.
    Injected(Injection),
    /// The pod is refused.
    Refused(Refusal),
}

impl Decision {
    /// A word for the metric.
    pub(crate) const fn outcome(&self) -> &'static str {
        match self {
            Self::Ignored | Self::LeftAlone(_) => "ignored",
            Self::Injected(Injection { patch: None, .. }) => "unchanged",
            Self::Injected(_) => "injected",
            Self::Refused(_) => "refused",
        }
    }

    /// The answer to the request with this uid, as JSON.
    ///
    /// Fails when it can't be written.
    pub(crate) fn answer(&self, uid: &str) -> Result<Vec<u8>, serde_json::Error> {
        let mut response = Response {
            uid,
            allowed: true,
            status: None,
            warnings: &[],
            patch: None,
            patch_type: None,
        };
        match self {
            Self::Ignored => {}
            Self::LeftAlone(warning) => response.warnings = std::slice::from_ref(warning),
            Self::Injected(injection) => {
                response.warnings = &injection.warnings;
                response.patch = injection.patch.as_ref().map(|patch| STANDARD.encode(patch));
                response.patch_type = response.patch.is_some().then_some("JSONPatch");
            }
            Self::Refused(refusal) => {
                response.allowed = false;
                response.status = Some(Status {
                    message: refusal.to_string(),
                });
            }
        }
        serde_json::to_vec(&Answer {
            api_version: API_VERSION,
            kind: KIND,
            response,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn review() -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": "shop",
                "resource": {"group": "", "version": "v1", "resource": "pods"}, "object": {"metadata": {"name": "a"}},
            },
        })
    }

    fn with(pointer: &str, value: Value) -> String {
        let mut review = review();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        review.pointer_mut(parent).unwrap()[key] = value;
        review.to_string()
    }

    #[test]
    fn the_request_is_read_and_its_object_left_for_later() {
        let body = review().to_string();
        let request = Request::read(body.as_bytes()).unwrap();
        assert_eq!(request.object.0, br#"{"metadata":{"name":"a"}}"#);
        assert!(request.is_new_pod());
        assert_eq!(request.namespace(), Ok("shop"));
    }

    #[test]
    fn only_the_creation_of_a_pod_concerns_us() {
        for (pointer, value) in [
            ("/request/operation", json!("UPDATE")),
            ("/request/resource/resource", json!("deployments")),
            ("/request/resource/group", json!("other.io")),
            ("/request/subResource", json!("eviction")),
        ] {
            let body = with(pointer, value);
            assert!(!Request::read(body.as_bytes()).unwrap().is_new_pod(), "{body}");
        }
    }

    #[test]
    fn a_malformed_review_is_refused_with_its_field() {
        for (body, part) in [
            (
                with("/apiVersion", json!("admission.k8s.io/v1beta1")),
                "apiVersion is \"admission.k8s.io/v1beta1\"",
            ),
            (with("/kind", json!(5)), "kind: a number instead of a string"),
            (with("/request", json!(null)), "it has no request"),
            (with("/request/uid", json!("")), "request.uid is \"\""),
            (with("/request/uid", json!("a\nb")), "request.uid is \"a\\nb\""),
            (
                with("/request/uid", json!("a".repeat(1000))),
                "it must be 1 to 64 letters",
            ),
            ("{}".into(), "apiVersion is \"\""),
            (String::new(), "EOF while parsing a value"),
        ] {
            let error = Request::read(body.as_bytes()).unwrap_err();
            assert!(error.contains(part) && error.len() < 300, "{error}");
        }
        for namespace in ["", "Shop", "a/b", "a\nb"] {
            let body = with("/request/namespace", json!(namespace));
            let refusal = Request::read(body.as_bytes())
                .unwrap()
                .namespace()
                .unwrap_err()
                .to_string();
            assert!(refusal.contains("request.namespace is"), "{refusal}");
        }
    }

    #[test]
    fn answers_have_the_form_of_the_api() {
        let answer =
            |decision: Decision| -> Value { serde_json::from_slice(&decision.answer("u-1").unwrap()).unwrap() };
        let response = |members: Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": members});
        assert_eq!(
            answer(Decision::Ignored),
            response(json!({"uid": "u-1", "allowed": true}))
        );
        let injection = |patch: Option<&str>| Injection {
            patch: patch.map(str::to_owned),
            launch_token: "reader".into(),
            warnings: vec!["mind this".into()],
        };
        let injected = Decision::Injected(injection(Some("[]")));
        assert_eq!(injected.outcome(), "injected");
        assert_eq!(
            answer(injected),
            response(json!({
                "uid": "u-1", "allowed": true, "warnings": ["mind this"], "patch": "W10=", "patchType": "JSONPatch",
            }))
        );
        let unchanged = Decision::Injected(injection(None));
        assert_eq!(unchanged.outcome(), "unchanged");
        assert_eq!(
            answer(unchanged),
            response(json!({"uid": "u-1", "allowed": true, "warnings": ["mind this"]}))
        );
        assert_eq!(
            answer(Decision::Refused(Refusal::NamespaceUnknown("shop".into()))),
            response(json!({
                "uid": "u-1", "allowed": false,
                "status": {"message": "namespace shop can't be read at present; try again"},
            }))
        );
    }
}
