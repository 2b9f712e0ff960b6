//! `Agentwrit-Epoch`: every answer to the controller and to pods, refusals included, says which store it comes from.

use std::convert::Infallible;
use std::task::{Context, Poll};

use agentwrit_store::Store;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Request};
use tower::{Layer, Service};

use super::Answered;
use super::after::{After, Finish};

const EPOCH: HeaderName = HeaderName::from_static("agentwrit-epoch");

/// The layer; without a store, which is where no pods are attested, it does nothing.
#[derive(Clone, Copy)]
pub(in crate::http) struct StoreEpochLayer<'a>(pub(in crate::http) Option<&'a Store>);

impl<'a, S> Layer<S> for StoreEpochLayer<'a> {
    type Service = StoreEpoch<'a, S>;

    fn layer(&self, inner: S) -> Self::Service {
        StoreEpoch { inner, store: self.0 }
    }
}

/// See the module.
#[derive(Clone)]
pub(in crate::http) struct StoreEpoch<'a, S> {
    inner: S,
    store: Option<&'a Store>,
}

impl<'a, S, B> Service<Request<B>> for StoreEpoch<'a, S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = After<S::Future, SetEpoch<'a>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let store = self.store.filter(|_| request.uri().path().starts_with("/v1/k8s/"));
        After::new(self.inner.call(request), SetEpoch(store))
    }
}

/// Puts the epoch on the answer: the one at its end, for a store may open meanwhile.
pub(in crate::http) struct SetEpoch<'a>(Option<&'a Store>);

impl Finish<Answered> for SetEpoch<'_> {
    type Output = Answered;

    fn finish(self, answered: Answered) -> Answered {
        let mut response = answered?;
        if let Some(epoch) = self.0.and_then(|store| HeaderValue::try_from(store.epoch()).ok()) {
            response.headers_mut().insert(EPOCH, epoch);
        }
        Ok(response)
    }
}
