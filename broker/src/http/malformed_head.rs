//! The answer to a request whose head can't be read: hyper's status, our words.

use agentwrit_protocol::{ErrorCode, Problem, go_json};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::http::error::MEDIA_TYPE;

/// Largest header block, bytes.
pub(crate) const MAX_HEAD: usize = 1_048_576;
/// Most lines of a header block: as many are set aside for each request.
pub(crate) const MAX_HEADERS: usize = 1000;

/// The bytes of the answer, after which the connection ends.
pub(super) fn answer(status: StatusCode, headers: &HeaderMap, request_id: &str) -> Bytes {
    let detail = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            format!("request header block must not exceed {MAX_HEAD} bytes or {MAX_HEADERS} lines")
        }
        StatusCode::URI_TOO_LONG => "request target is too long".to_owned(),
        _ => "malformed HTTP request".to_owned(),
    };
    let title = status.canonical_reason().unwrap_or("Bad Request");
    let problem = Problem {
        title: title.to_owned(),
        status: status.as_u16(),
        request_id: request_id.to_owned(),
        ..Problem::new(ErrorCode::InvalidRequest, detail)
    };
    let body = go_json::to_line(&problem);
    let mut bytes = format!(
        "HTTP/1.1 {} {title}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\n",
        status.as_u16(),
        body.len()
    )
    .into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.as_bytes());
    bytes.into()
}
