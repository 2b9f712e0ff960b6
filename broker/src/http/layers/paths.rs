//! Paths before routing: percent-decoding and cleaning. An unclean path is redirected.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::{Ready, ready};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::future::Either;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use tower::Service;

use super::frame::{Answered, Surround};
use crate::http::request::ApiRequest;

/// What a path in a `Location` must not hold as it is: `?` and `#` end it, browsers read a backslash as `/`.
const NOT_IN_LOCATION: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What to do with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum Route {
    /// Route it.
    AsIs,
    /// Route this instead.
    Decoded(String),
    /// Send the client there; encoded again.
    Redirect(String),
}

/// The path that problems, the log and the trail show: decoded, whatever it is routed as.
pub(in crate::http) fn shown(raw: &str) -> Cow<'_, str> {
    percent_decode_str(raw).decode_utf8_lossy()
}

/// Decides about a path as it came.
pub(in crate::http) fn route(raw: &str) -> Route {
    // `OPTIONS *` and CONNECT have no path.
    if !raw.starts_with('/') || is_plain(raw) {
        return Route::AsIs;
    }
    let lower = raw.to_ascii_lowercase();
    // An encoded slash is no separator, and an encoded ? or # ends no path: such a path matches nothing.
    if ["%2f", "%3f", "%23"].iter().any(|delimiter| lower.contains(delimiter)) {
        return Route::AsIs;
    }
    let decoded = percent_decode_str(raw).decode_utf8_lossy();
    let clean = clean(&decoded);
    if clean != decoded {
        return Route::Redirect(utf8_percent_encode(&clean, NOT_IN_LOCATION).to_string());
    }
    // Routes decode their parameters themselves; nothing is decoded twice.
    if decoded == raw || decoded.contains('%') {
        Route::AsIs
    } else {
        Route::Decoded(clean)
    }
}

/// Whether there is nothing to decode and nothing to clean, as in nearly every path.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let begins_badly = |pair: &[u8]| matches!(pair, [b'/', b'/' | b'.']);
    !bytes.contains(&b'%') && !bytes.windows(2).any(begins_badly)
}

/// Without empty, `.` and `..` segments; a trailing slash stays.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let directory = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    let slash = if directory && !kept.is_empty() { "/" } else { "" };
    format!("/{}{slash}", kept.join("/"))
}

/// The layer, below the one that reads bodies: a redirect is an answer to a whole request.
#[derive(Clone, Copy)]
pub(in crate::http) struct Paths;

impl<S> Surround<S, Body> for Paths
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    type Future = Either<S::Future, Ready<Answered>>;

    fn call(self, inner: &mut S, mut request: Request<Body>) -> Self::Future {
        let arrived = ApiRequest::of(request.extensions_mut());
        match arrived.take_route() {
            Route::AsIs => {}
            Route::Decoded(path) => {
                if let Ok(uri) = Uri::try_from(with_query(path, &arrived.uri)) {
                    *request.uri_mut() = uri;
                }
            }
            Route::Redirect(path) => {
                if let Ok(location) = HeaderValue::try_from(with_query(path, &arrived.uri)) {
                    let redirect = (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]);
                    return Either::Right(ready(Ok(redirect.into_response())));
                }
            }
        }
        Either::Left(inner.call(request))
    }
}

fn with_query(mut path: String, uri: &Uri) -> String {
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_decoded_and_cleaned() {
        let table = [
            ("/v1/health", Route::AsIs),
            ("/v1/%68ealth", Route::Decoded("/v1/health".into())),
            ("/v1%2Fhealth", Route::AsIs),
            ("//v1/health", Route::Redirect("/v1/health".into())),
            ("/v1/./health", Route::Redirect("/v1/health".into())),
            ("/v1/x/../health", Route::Redirect("/v1/health".into())),
            ("/../../v1/health", Route::Redirect("/v1/health".into())),
            ("/v1/health%3Fx", Route::AsIs),
            ("/v1/health%23x", Route::AsIs),
            ("//v1/health%3f", Route::AsIs),
            // No redirect leaves this host: browsers take a backslash for a slash.
            ("/%5Cevil.example//", Route::Redirect("/%5Cevil.example/".into())),
            ("/\\evil.example/./", Route::Redirect("/%5Cevil.example/".into())),
            ("//a%0d%0ab", Route::Redirect("/a%0D%0Ab".into())),
            ("/v1/k8s/pods/%2541/ended", Route::AsIs),
            ("/v1/health/", Route::AsIs),
            ("/", Route::AsIs),
            ("*", Route::AsIs),
            ("", Route::AsIs),
        ];
        for (path, wanted) in table {
            assert_eq!(route(path), wanted, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_path_is_a_clean_one(path in "/[a-z./%]{0,12}") {
            prop_assert!(!is_plain(&path) || clean(&path) == path, "{}", path);
        }

        #[test]
        fn a_clean_path_is_left_alone_and_cleaning_is_done_at_once(path in "/[a-z./%20]{0,30}") {
            let cleaned = clean(&path);
            prop_assert!(cleaned.starts_with('/'));
            prop_assert_eq!(clean(&cleaned), cleaned.clone());
            let _ = route(&path);
        }
    }
}
