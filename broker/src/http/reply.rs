//! Answers with a JSON body.

use agentwrit_protocol::go_json::to_line;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

/// A success with a JSON body.
pub fn reply<T: Serialize>(status: StatusCode, value: &T) -> Response {
    reply_text(status, to_line(value))
}

/// A success with a body that is JSON and ends with a line feed.
pub fn reply_text(status: StatusCode, line: impl Into<Body>) -> Response {
    let mut response = Response::new(line.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
