//! Refusals become `application/problem+json`, with path and request id.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Request, StatusCode, Uri, header};
use tower::{Layer, Service};

use super::after::{After, Finish};
use super::{Answered, paths};
use crate::http::error::ApiError;
use crate::http::request::ApiRequest;

/// The layer.
#[derive(Clone, Copy)]
pub(in crate::http) struct ProblemLayer;

impl<S> Layer<S> for ProblemLayer {
    type Service = Problems<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Problems(inner)
    }
}

/// See the module.
#[derive(Clone)]
pub(in crate::http) struct Problems<S>(S);

impl<S, B> Service<Request<B>> for Problems<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = After<S::Future, Render>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let render = Render {
            uri: request.uri().clone(),
            request_id: ApiRequest::of(request.extensions_mut()).shared_request_id(),
        };
        After::new(self.0.call(request), render)
    }
}

/// Renders the refusal that a response carries.
pub(in crate::http) struct Render {
    uri: Uri,
    request_id: Option<Arc<str>>,
}

impl Finish<Answered> for Render {
    type Output = Answered;

    fn finish(self, answered: Answered) -> Answered {
        let mut response = answered?;
        if is_routers_own(&response) {
            response = ApiError::invalid("the path can't be read: its escapes must be UTF-8").into_response();
        }
        let Some(error) = response.extensions_mut().remove::<ApiError>() else {
            return Ok(response);
        };
        let allow = response.headers_mut().remove(header::ALLOW);
        let path = paths::shown(self.uri.path());
        let mut rendered = error.render(&path, self.request_id.as_deref().unwrap_or_default());
        if let Some(allow) = allow {
            rendered.headers_mut().insert(header::ALLOW, spaced(&allow));
        }
        Ok(rendered)
    }
}

/// Whether the router refused in its own words: a parameter of the path that is no text.
fn is_routers_own(response: &Response) -> bool {
    response.status() == StatusCode::BAD_REQUEST && response.extensions().get::<ApiError>().is_none()
}

/// `GET,HEAD` as `GET, HEAD`, sorted.
fn spaced(allow: &HeaderValue) -> HeaderValue {
    let mut methods: Vec<&str> = allow.to_str().unwrap_or_default().split(',').map(str::trim).collect();
    methods.sort_unstable();
    HeaderValue::try_from(methods.join(", ")).unwrap_or_else(|_| allow.clone())
}
