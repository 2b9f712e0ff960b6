//! Public documents that clients may keep for a while: `Cache-Control` and `ETag` (RFC 9111, RFC 9110 §8.8.3).

use agentwrit_protocol::go_json::to_line;
use agentwrit_protocol::{Ttl, lower_hex};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::reply::reply_text;

/// The document, or 304 when the client has it already.
pub(super) fn cached<T: Serialize>(asked: &HeaderMap, document: &T, max_age: Ttl) -> Response {
    let line = to_line(document);
    let tag = format!("\"{}\"", lower_hex(Sha256::digest(&line)));
    let mut response = if has(asked, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        reply_text(StatusCode::OK, line)
    };
    let headers = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, format!("public, max-age={max_age}")),
    ];
    for (name, value) in headers {
        // Of digits and hexadecimal digits: never refused.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Whether `If-None-Match` names this tag, or `*`. Weak tags compare as strong ones do here (RFC 9110 §13.1.2).
fn has(asked: &HeaderMap, tag: &str) -> bool {
    let values = asked.get_all(header::IF_NONE_MATCH);
    let mut named = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    named.any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(if_none_match: &[&str]) -> Response {
        let mut asked = HeaderMap::new();
        for value in if_none_match {
            asked.append(header::IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
        }
        cached(&asked, &serde_json::json!({"a": 1}), Ttl::seconds(300))
    }

    #[test]
    fn a_client_that_has_the_document_gets_no_body() {
        let first = answer(&[]);
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CACHE_CONTROL], "public, max-age=300");
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        let weak = format!("W/{tag}");
        let listed = format!("\"x\", {tag}");
        for value in [tag.as_str(), &weak, &listed, "*"] {
            let again = answer(&[value]);
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{value}");
            assert_eq!(again.headers()[header::ETAG], tag.as_str());
        }
        assert_eq!(answer(&["\"y\"", &tag]).status(), StatusCode::NOT_MODIFIED);
        for value in ["\"x\"", "", "x"] {
            assert_eq!(answer(&[value]).status(), StatusCode::OK, "{value}");
        }
    }
}
