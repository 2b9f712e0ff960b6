//! Bodies of requests: how large each endpoint takes them, and what is answered when one can't be read.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;

use agentwrit_protocol::ErrorCode;
use agentwrit_server::{BodyError, Connection, read_body};
use axum::BoxError;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Either;
use http::{HeaderMap, Method, Request};
use hyper::body::Body as HttpBody;
use tower::Service;

use super::frame::{Answered, Surround};
use crate::http::error::ApiError;
use crate::http::request::ApiRequest;

/// Largest body of the contract's endpoints, bytes (`docs/wire-contract.md` §1.3).
pub(in crate::http) const MAX_BODY: usize = 1_048_576;
/// Largest body of the Kubernetes endpoints, which carry one object's data, bytes.
const MAX_KUBERNETES_BODY: usize = 64 * 1024;
/// Largest body on the ops listener, whose endpoints need none, bytes.
pub(in crate::http) const MAX_OPS_BODY: usize = 4 * 1024;

/// When the body of a request is read, and how large it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyRule {
    /// Before anything else.
    First(usize),
    /// By the handler, once it knows the caller.
    Later,
}

/// The rule of an endpoint of the API. `path` is the one that is routed.
fn rule(method: &Method, path: &str) -> BodyRule {
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
    B: HttpBody<Data = Bytes> + Unpin,
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

/// The layer of a listener that takes bodies of at most `most` bytes.
#[derive(Clone, Copy)]
pub(in crate::http) struct BodyLimit {
    pub(in crate::http) most: usize,
}

/// A refusal, an answer, or an answer after a body that is still to be read; only then a future is boxed.
type Limited<F> = Either<Ready<Answered>, Either<F, Pin<Box<dyn Future<Output = Answered> + Send>>>>;

impl<S, B> Surround<S, B> for BodyLimit
where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    type Future = Limited<S::Future>;

    fn call(self, inner: &mut S, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let arrived = ApiRequest::of(&mut parts.extensions);
        if let Some(problem) = arrived.connection.ambiguous() {
            return refused(ApiError::invalid(problem));
        }
        let most = match rule(&parts.method, arrived.routed_path()) {
            BodyRule::First(most) => most.min(self.most),
            BodyRule::Later => {
                arrived.read_later(Body::new(body));
                let request = Request::from_parts(parts, Body::empty());
                return Either::Right(Either::Left(inner.call(request)));
            }
        };
        if body.is_end_stream() {
            return match read(&parts.headers, body, most, &arrived.connection).now_or_never() {
                Some(Ok(body)) => {
                    arrived.body = body;
                    let request = Request::from_parts(parts, Body::empty());
                    Either::Right(Either::Left(inner.call(request)))
                }
                Some(Err(error)) => refused(error),
                None => refused(answer(BodyError::Unreadable, most).closing()),
            };
        }
        let mut inner = inner.clone();
        Either::Right(Either::Right(Box::pin(async move {
            let arrived = ApiRequest::of(&mut parts.extensions);
            match read(&parts.headers, body, most, &arrived.connection).await {
                Ok(body) => {
                    arrived.body = body;
                    inner.call(Request::from_parts(parts, Body::empty())).await
                }
                Err(error) => Ok(error.into_response()),
            }
        })))
    }
}

fn refused<F>(error: ApiError) -> Limited<F> {
    Either::Left(ready(Ok(error.into_response())))
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
