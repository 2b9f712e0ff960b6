//! A panic fails its request only, is logged with the path, and counted.
//!
//! What handlers share survives it: locks are taken as they are, and the store has its own task.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::CatchUnwind;
use http::{Request, Uri};
use prometheus::IntCounter;
use tower::util::Oneshot;
use tower::{Layer, Service, ServiceExt};

use super::access_log::printable;
use super::after::{After, Finish};
use super::{Answered, paths};
use crate::http::error::ApiError;

/// The layer, with the counter of panics.
#[derive(Clone, Copy)]
pub(in crate::http) struct CatchPanicLayer<'a>(pub(in crate::http) &'a IntCounter);

impl<'a, S> Layer<S> for CatchPanicLayer<'a> {
    type Service = CatchPanic<'a, S>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchPanic { inner, panics: self.0 }
    }
}

/// See the module.
#[derive(Clone)]
pub(in crate::http) struct CatchPanic<'a, S> {
    inner: S,
    panics: &'a IntCounter,
}

impl<'a, S, B> Service<Request<B>> for CatchPanic<'a, S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible> + Clone,
{
    type Response = Response;
    type Error = Infallible;
    // A oneshot calls the service where its panics are caught.
    type Future = After<CatchUnwind<AssertUnwindSafe<Oneshot<S, Request<B>>>>, AnswerPanic<'a>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = AnswerPanic {
            panics: self.panics,
            uri: request.uri().clone(),
        };
        let inner = AssertUnwindSafe(self.inner.clone().oneshot(request));
        After::new(inner.catch_unwind(), answer)
    }
}

/// Answers 500 in place of a panic.
pub(in crate::http) struct AnswerPanic<'a> {
    panics: &'a IntCounter,
    uri: Uri,
}

impl Finish<Result<Answered, Box<dyn Any + Send>>> for AnswerPanic<'_> {
    type Output = Answered;

    fn finish(self, outcome: Result<Answered, Box<dyn Any + Send>>) -> Answered {
        outcome.unwrap_or_else(|_| {
            self.panics.inc();
            let path = paths::shown(self.uri.path());
            tracing::error!(target: "HTTP", component = "Panic", path = %printable(&path), "a handler panicked");
            Ok(ApiError::internal("internal error").into_response())
        })
    }
}
