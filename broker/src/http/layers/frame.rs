//! The frame of every layer: tower's traits, written once.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::response::Response;
use http::Request;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

/// What every layer ends with: a refusal is a response too.
pub(in crate::http) type Answered = Result<Response, Infallible>;

/// How a layer calls the service that it surrounds.
pub(in crate::http) trait Surround<S, B>: Copy {
    /// The answer to come.
    type Future: Future<Output = Answered>;

    /// Answers the request, mostly by calling `inner`.
    fn call(self, inner: &mut S, request: Request<B>) -> Self::Future;
}

/// A layer that only looks at the request, and changes or reports the answer.
pub(in crate::http) trait Step: Copy {
    /// What it knows of the request when the answer is there.
    type Finish: Finish<Answered>;

    /// Looks at the request.
    fn begin<B>(self, request: &mut Request<B>) -> Self::Finish;
}

/// The end of a layer's work on a request.
pub(in crate::http) trait Finish<Outcome> {
    /// Makes the answer.
    fn finish(self, outcome: Outcome) -> Response;
}

impl<S, T, B> Surround<S, B> for T
where
    T: Step,
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Future = After<S::Future, T::Finish>;

    fn call(self, inner: &mut S, mut request: Request<B>) -> Self::Future {
        let finish = self.begin(&mut request);
        After::new(inner.call(request), finish)
    }
}

/// Makes a tower layer of a [`Surround`].
#[derive(Clone, Copy)]
pub(in crate::http) struct Around<T>(pub(in crate::http) T);

impl<S, T: Copy> Layer<S> for Around<T> {
    type Service = Surrounded<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        Surrounded { inner, with: self.0 }
    }
}

/// A service with one layer around it.
#[derive(Clone)]
pub(in crate::http) struct Surrounded<S, T> {
    inner: S,
    with: T,
}

impl<S, T: Surround<S, B>, B> Service<Request<B>> for Surrounded<S, T> {
    type Response = Response;
    type Error = Infallible;
    type Future = T::Future;

    /// The router is always ready, and so is each layer around it.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.with.call(&mut self.inner, request)
    }
}

pin_project! {
    /// A future whose outcome is made an answer by `T`.
    pub(in crate::http) struct After<F, T> {
        #[pin]
        future: F,
        finish: Option<T>,
    }
}

impl<F, T> After<F, T> {
    pub(super) fn new(future: F, finish: T) -> Self {
        Self {
            future,
            finish: Some(finish),
        }
    }
}

impl<F: Future, T: Finish<F::Output>> Future for After<F, T> {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let this = self.project();
        let outcome = ready!(this.future.poll(cx));
        match this.finish.take() {
            Some(finish) => Poll::Ready(Ok(finish.finish(outcome))),
            // Polled after its end.
            None => Poll::Pending,
        }
    }
}
