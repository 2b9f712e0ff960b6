//! A panic fails its request only, is logged with the path, and counted.
//!
//! What handlers share survives it: locks are taken as they are, and the store has its own task.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;

use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::CatchUnwind;
use http::{Request, Uri};
use prometheus::IntCounter;
use tower::util::Oneshot;
use tower::{Service, ServiceExt};

use super::access_log::printable;
use super::frame::{After, Answered, Finish, Surround};
use super::paths;
use crate::http::error::ApiError;

/// The layer, with the counter of panics.
#[derive(Clone, Copy)]
pub(in crate::http) struct CatchPanic<'a>(pub(in crate::http) &'a IntCounter);

impl<'a, S, B> Surround<S, B> for CatchPanic<'a>
where
    S: Service<Request<B>, Response = Response, Error = Infallible> + Clone,
{
    // A oneshot calls the service where its panics are caught.
    type Future = After<CatchUnwind<AssertUnwindSafe<Oneshot<S, Request<B>>>>, AnswerPanic<'a>>;

    fn call(self, inner: &mut S, request: Request<B>) -> Self::Future {
        let answer = AnswerPanic {
            panics: self.0,
            uri: request.uri().clone(),
        };
        let inner = AssertUnwindSafe(inner.clone().oneshot(request));
        After::new(inner.catch_unwind(), answer)
    }
}

/// Answers 500 in place of a panic.
pub(in crate::http) struct AnswerPanic<'a> {
    panics: &'a IntCounter,
    uri: Uri,
}

impl Finish<Result<Answered, Box<dyn Any + Send>>> for AnswerPanic<'_> {
    fn finish(self, outcome: Result<Answered, Box<dyn Any + Send>>) -> Response {
        if let Ok(Ok(response)) = outcome {
            return response;
        }
        self.panics.inc();
        let path = paths::shown(self.uri.path());
        tracing::error!(target: "HTTP", component = "Panic", path = %printable(&path), "a handler panicked");
        ApiError::internal("internal error").into_response()
    }
}
