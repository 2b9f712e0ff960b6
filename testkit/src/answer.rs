//! One request over a connection of its own, and the answer.

use std::pin::pin;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

use crate::http::{header_map, parse, request};

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
    pub(crate) fn new(status: u16, headers: HeaderMap, body: &[u8]) -> Self {
        Self {
            status,
            headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
            body: serde_json::from_slice(body).unwrap_or(Value::Null),
        }
    }

    /// The answer to this method, once these bytes are all of it.
    pub(crate) fn parse(method: &str, bytes: &[u8]) -> Option<Self> {
        let (head, headers) = parse(method, bytes, header_map).unwrap()?;
        let body = bytes.get(head.body_at..head.end)?;
        Some(Self::new(head.status, headers, body))
    }

    /// A member of the body that must be a text.
    #[track_caller]
    pub fn member(&self, name: &str) -> String {
        let text = self.body[name].as_str().map(str::to_owned);
        text.unwrap_or_else(|| panic!("no {name} in {self:?}"))
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
    S: AsyncRead + AsyncWrite,
{
    let request = request(method, path, headers, &body.into());
    let (mut reader, mut writer) = split(stream);
    let write = pin!(async {
        // The broker may answer, and close, before it has read everything.
        if writer.write_all(&request).await.is_ok() {
            writer.flush().await.ok();
        }
    });
    let mut read = pin!(async {
        let mut bytes = Vec::new();
        loop {
            let count = reader.read_buf(&mut bytes).await.unwrap();
            assert!(count > 0, "the connection ended within an answer");
            if let Some(answer) = Answer::parse(method, &bytes) {
                return answer;
            }
        }
    });
    tokio::select! {
        biased;
        answer = &mut read => answer,
        () = write => read.await,
    }
}
