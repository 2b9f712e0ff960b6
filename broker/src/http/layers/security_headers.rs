//! Headers that every answer carries, whatever it is.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tower_http::set_header::SetResponseHeaderLayer;

const FIXED: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

type FixedHeader = SetResponseHeaderLayer<HeaderValue>;
type OptionalHeader = SetResponseHeaderLayer<Option<HeaderValue>>;

/// The layers; `hsts` is [`hsts`].
pub(in crate::http) fn layers(hsts: Option<HeaderValue>) -> (FixedHeader, FixedHeader, FixedHeader, OptionalHeader) {
    let [first, second, third] = FIXED.map(|(name, value)| SetResponseHeaderLayer::overriding(name, value));
    let hsts = SetResponseHeaderLayer::overriding(header::STRICT_TRANSPORT_SECURITY, hsts);
    (first, second, third, hsts)
}

/// `Strict-Transport-Security`, of a listener that is `secure`.
pub(in crate::http) fn hsts(secure: bool) -> Option<HeaderValue> {
    secure.then_some(HSTS)
}

/// The same headers for an answer that passes no layer.
pub(in crate::http) fn set(headers: &mut HeaderMap, hsts: Option<HeaderValue>) {
    headers.extend(FIXED);
    if let Some(hsts) = hsts {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts);
    }
}
