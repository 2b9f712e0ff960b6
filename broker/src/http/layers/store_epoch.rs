//! `Agentwrit-Epoch`: every answer to the controller and to pods, refusals included, says which store it comes from.

use agentwrit_store::Store;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Request};

use super::frame::{Answered, Finish, Step};

const EPOCH: HeaderName = HeaderName::from_static("agentwrit-epoch");

/// The layer; without a store, which is where no pods are attested, it does nothing.
#[derive(Clone, Copy)]
pub(in crate::http) struct StoreEpoch<'a>(pub(in crate::http) Option<&'a Store>);

impl<'a> Step for StoreEpoch<'a> {
    type Finish = SetEpoch<'a>;

    fn begin<B>(self, request: &mut Request<B>) -> SetEpoch<'a> {
        SetEpoch(self.0.filter(|_| request.uri().path().starts_with("/v1/k8s/")))
    }
}

/// Puts the epoch on the answer: the one at its end, for a store may open meanwhile.
pub(in crate::http) struct SetEpoch<'a>(Option<&'a Store>);

impl Finish<Answered> for SetEpoch<'_> {
    fn finish(self, answered: Answered) -> Response {
        let Ok(mut response) = answered;
        if let Some(epoch) = self.0.and_then(|store| HeaderValue::try_from(store.epoch()).ok()) {
            response.headers_mut().insert(EPOCH, epoch);
        }
        response
    }
}
