//! Bodies of requests: how large each endpoint takes them, and what is answered when one can't be read.

use agentwrit_protocol::ErrorCode;
use agentwrit_server::{BodyError, Connection, read_body};
use bytes::Bytes;
use http::{HeaderMap, Method};
use hyper::body::Body;

use crate::http::error::ApiError;

/// Largest body of the contract's endpoints, bytes (§1.3).
pub(in crate::http) const MAX_BODY: usize = 1_048_576;
/// Largest body of the Kubernetes endpoints, which carry one object's data, bytes.
const MAX_KUBERNETES_BODY: usize = 64 * 1024;
/// Largest body on the ops listener, whose endpoints need none, bytes.
pub(in crate::http) const MAX_OPS_BODY: usize = 4 * 1024;

/// When the body of a request is read, and how large it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum BodyRule {
    /// Before anything else.
    First(usize),
    /// By the handler, once it knows the caller.
    Later,
}

/// The rule of an endpoint of the API. `path` is the one that is routed.
pub(in crate::http) fn rule(method: &Method, path: &str) -> BodyRule {
    if method == Method::PUT && path == "/v1/k8s/policies" {
        BodyRule::Later
    } else if path.starts_with("/v1/k8s/") {
        BodyRule::First(MAX_KUBERNETES_BODY)
    } else {
        BodyRule::First(MAX_BODY)
    }
}

/// The whole body, of at most `most` bytes.
///
/// # Errors
/// The answer to a body that is too large, can't be read, or has no room.
pub(in crate::http) async fn read<B>(
    headers: &HeaderMap,
    body: B,
    most: usize,
    connection: &Connection,
) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let read = read_body(headers, body, most, connection).await;
    read.map_err(|error| answer(error, most).closing())
}

fn answer(error: BodyError, most: usize) -> ApiError {
    match error {
        BodyError::TooLarge if most == MAX_BODY => {
            ApiError::new(ErrorCode::PayloadTooLarge, "request body must not exceed 1 MB")
        }
        BodyError::TooLarge => ApiError::new(
            ErrorCode::PayloadTooLarge,
            format!("request body must not exceed {most} bytes here"),
        ),
        BodyError::Unreadable => ApiError::invalid("failed to read request body"),
        BodyError::NoRoom => ApiError::new(ErrorCode::Unavailable, "too many request bodies in flight").retry_after(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_has_its_rule() {
        let rule = |method: Method, path| rule(&method, path);
        assert_eq!(rule(Method::POST, "/v1/register"), BodyRule::First(MAX_BODY));
        assert_eq!(rule(Method::PUT, "/v1/k8s/policies"), BodyRule::Later);
        assert_eq!(
            rule(Method::POST, "/v1/k8s/policies"),
            BodyRule::First(MAX_KUBERNETES_BODY)
        );
        assert_eq!(
            rule(Method::POST, "/v1/k8s/launch-tokens"),
            BodyRule::First(MAX_KUBERNETES_BODY)
        );
        assert_eq!(rule(Method::GET, "/nowhere"), BodyRule::First(MAX_BODY));
    }

    #[test]
    fn each_failure_has_its_answer() {
        let text = |error, most| {
            let problem = answer(error, most).problem().clone();
            (problem.status, problem.detail)
        };
        for (error, most, status, detail) in [
            (BodyError::TooLarge, MAX_BODY, 413, "request body must not exceed 1 MB"),
            (
                BodyError::TooLarge,
                4096,
                413,
                "request body must not exceed 4096 bytes here",
            ),
            (BodyError::Unreadable, MAX_BODY, 400, "failed to read request body"),
            (BodyError::NoRoom, MAX_BODY, 503, "too many request bodies in flight"),
        ] {
            assert_eq!(text(error, most), (status, detail.to_owned()));
        }
    }
}
