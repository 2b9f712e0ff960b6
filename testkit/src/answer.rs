//! One request over a connection of its own, and the answer.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

/// An answer of the broker.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// The same as JSON; null when it is none.
    pub body: Value,
}

impl Answer {
    pub(crate) fn new(parts: http::response::Parts, body: &[u8]) -> Self {
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
            body: serde_json::from_slice(body).unwrap_or(Value::Null),
        }
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body of an answer that must be a success; null when it has none.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.is_success(), "{self:?}");
        self.body
    }

    /// Status and `error_code`.
    pub fn refusal(&self) -> (u16, &str) {
        (self.status, self.body["error_code"].as_str().unwrap_or(""))
    }

    /// The problem's status, code and detail; its other members are checked to fit.
    #[track_caller]
    pub fn problem(&self) -> (u16, String, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body = self.json();
        let code = body["error_code"].as_str().unwrap();
        assert_eq!(body["type"], format!("urn:agentwrit:error:{code}"));
        assert_eq!(body["status"], self.status);
        assert_eq!(body["request_id"], self.header("x-request-id"));
        let detail = body["detail"].as_str().unwrap();
        (self.status, code.to_owned(), detail.to_owned())
    }

    /// It is this problem.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str, detail: &str) {
        let problem = self.problem();
        assert_eq!(problem, (status, code.to_owned(), detail.to_owned()));
    }

    /// It is this problem, with `part` in its detail.
    #[track_caller]
    pub fn refused_like(&self, status: u16, code: &str, part: &str) {
        let (given, given_code, detail) = self.problem();
        assert_eq!((given, given_code.as_str()), (status, code), "{detail}");
        assert!(detail.contains(part), "{detail}");
    }
}

/// Sends one request over this connection.
pub async fn send_over<S>(
    stream: S,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "broker");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender
        .send_request(request.body(Full::new(body.into())).unwrap())
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    drop(sender);
    driver.abort();
    Answer::new(parts, &bytes)
}
