//! The request id: taken from the request when it can be logged, else made; on every answer and in every log line.

use std::convert::Infallible;
use std::sync::Arc;

use agentwrit_logging::within_request;
use agentwrit_protocol::{Entropy, lower_hex};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::task::futures::TaskLocalFuture;
use tower::Service;

use super::frame::{After, Answered, Finish, Surround};
use crate::http::request::ApiRequest;

/// Header that every answer carries.
pub(in crate::http) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request with these headers.
pub(in crate::http) fn of(headers: &HeaderMap, entropy: &dyn Entropy) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let safe = |id: &&str| {
        (1..=128).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    if let Some(id) = given.filter(safe) {
        return id.to_owned();
    }
    let mut random = [0_u8; 8];
    match entropy.fill(&mut random) {
        Ok(()) => lower_hex(random),
        // The request fails later, where randomness matters.
        Err(_) => "0".repeat(16),
    }
}

/// Puts an id on a response.
pub(in crate::http) fn set(headers: &mut HeaderMap, id: &str) {
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// The layer.
#[derive(Clone, Copy)]
pub(in crate::http) struct RequestId<'a>(pub(in crate::http) &'a dyn Entropy);

impl<S, B> Surround<S, B> for RequestId<'_>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    // The layers below start within the id's scope, so that what they log first has it too.
    type Future = After<TaskLocalFuture<Arc<str>, S::Future>, SetRequestId>;

    fn call(self, inner: &mut S, mut request: Request<B>) -> Self::Future {
        let id: Arc<str> = of(request.headers(), self.0).into();
        ApiRequest::of(request.extensions_mut()).set_request_id(Arc::clone(&id));
        let answered = within_request(Arc::clone(&id), || inner.call(request));
        After::new(answered, SetRequestId(id))
    }
}

/// Puts the id on the answer.
pub(in crate::http) struct SetRequestId(Arc<str>);

impl Finish<Answered> for SetRequestId {
    fn finish(self, answered: Answered) -> Response {
        let Ok(mut response) = answered;
        set(response.headers_mut(), &self.0);
        response
    }
}
