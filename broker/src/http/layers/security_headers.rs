//! Headers that every answer carries, whatever it is.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};

use super::frame::{Answered, Finish, Step};

const FIXED: [(HeaderName, HeaderValue); 2] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// The layer, and the headers themselves for an answer that passes none. A `secure` listener sends HSTS.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct SecurityHeaders {
    pub(in crate::http) secure: bool,
}

impl SecurityHeaders {
    /// Puts the headers on an answer.
    pub(in crate::http) fn set(self, headers: &mut HeaderMap) {
        for (name, value) in FIXED {
            headers.insert(name, value);
        }
        // Only public documents say how long they may be kept.
        headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
        if self.secure {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
    }
}

impl Step for SecurityHeaders {
    type Finish = Self;

    fn begin<B>(self, _request: &mut Request<B>) -> Self {
        self
    }
}

impl Finish<Answered> for SecurityHeaders {
    fn finish(self, answered: Answered) -> Response {
        let Ok(mut response) = answered;
        self.set(response.headers_mut());
        response
    }
}
