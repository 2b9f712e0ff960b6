//! Refusals become `application/problem+json`, with path and request id.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Request, StatusCode, Uri, header};

use super::frame::{Answered, Finish, Step};
use super::paths;
use crate::http::error::ApiError;
use crate::http::request::ApiRequest;

/// The layer.
#[derive(Clone, Copy)]
pub(in crate::http) struct Problems;

impl Step for Problems {
    type Finish = Render;

    fn begin<B>(self, request: &mut Request<B>) -> Render {
        Render {
            uri: request.uri().clone(),
            request_id: ApiRequest::of(request.extensions_mut()).shared_request_id(),
        }
    }
}

/// Renders the refusal that a response carries.
pub(in crate::http) struct Render {
    uri: Uri,
    request_id: Option<Arc<str>>,
}

impl Finish<Answered> for Render {
    fn finish(self, answered: Answered) -> Response {
        let Ok(mut response) = answered;
        if is_routers_own(&response) {
            response = ApiError::invalid("the path can't be read: its escapes must be UTF-8").into_response();
        }
        let Some(error) = response.extensions_mut().remove::<ApiError>() else {
            return response;
        };
        let allow = response.headers_mut().remove(header::ALLOW);
        let path = paths::shown(self.uri.path());
        let mut rendered = error.render(&path, self.request_id.as_deref().unwrap_or_default());
        if let Some(allow) = allow {
            rendered.headers_mut().insert(header::ALLOW, spaced(&allow));
        }
        rendered
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
