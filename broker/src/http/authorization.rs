//! The `Authorization` header, and the check of its bearer before a handler does anything else.

use agentwrit_protocol::ErrorCode;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::{ApiError, ApiRequest, Broker};
use crate::service::actor::Actor;
use crate::service::authorize::{Authorization, AuthorizeError, Bearer, Requirement};

/// Checks the bearer of a request.
pub(super) async fn authorize(
    broker: &Broker,
    request: &ApiRequest,
    requirement: Requirement,
) -> Result<Bearer, ApiError> {
    let path = request.path();
    let authorizer = broker.authorizer();
    Ok(authorizer
        .authorize(read(&request.headers), request.origin(&path), requirement)
        .await?)
}

/// The same for who changes something, as the trail will have it.
pub(super) async fn authorize_actor(
    broker: &Broker,
    request: &ApiRequest,
    requirement: Requirement,
) -> Result<Actor, ApiError> {
    let bearer = authorize(broker, request, requirement).await?;
    Ok(request.actor(&bearer.claims))
}

/// The header as text, for callers from the cluster; nothing when there are two.
pub(super) fn text(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().ok(),
        _ => None,
    }
}

/// What the header says. With two of them it isn't known which one another hop has looked at: they are no bearer.
pub(super) fn read(headers: &HeaderMap) -> Authorization<'_> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Authorization::OtherScheme,
        (Some(line), None) if !line.is_empty() => match line.as_bytes().strip_prefix(b"Bearer ") {
            // What is no text is no token either, and empty ones are malformed.
            Some(token) => Authorization::Bearer(str::from_utf8(token).unwrap_or_default()),
            None => Authorization::OtherScheme,
        },
        _ => Authorization::Missing,
    }
}

impl From<AuthorizeError> for ApiError {
    fn from(error: AuthorizeError) -> Self {
        match error {
            AuthorizeError::Unauthorized(detail) => Self::unauthorized(detail),
            AuthorizeError::Revoked(code) => Self::revoked(code),
            AuthorizeError::Deregistered => Self::new(ErrorCode::Forbidden, error.to_string()),
            AuthorizeError::Insufficient(detail) => Self::new(ErrorCode::InsufficientScope, detail),
            AuthorizeError::Unknown => Self::unavailable(),
            AuthorizeError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    #[test]
    fn a_header_is_missing_another_scheme_or_a_bearer() {
        let table: [(&[&[u8]], Option<&str>); 9] = [
            (&[b"Bearer a.b.c"], Some("a.b.c")),
            (&[b"Bearer "], Some("")),
            (&[b"Bearer \xff"], Some("")),
            (&["Bearer \u{e9}".as_bytes()], Some("\u{e9}")),
            (&[b"bearer a.b.c"], None),
            (&[b"Basic a.b.c"], None),
            (&[b"Bearer"], None),
            (&[b"Bearer a.b.c", b"Bearer a.b.c"], None),
            (&[b"", b""], None),
        ];
        for (lines, wanted) in table {
            let read = match read(&headers(lines)) {
                Authorization::Bearer(token) => Some(token.to_owned()),
                Authorization::OtherScheme => None,
                Authorization::Missing => panic!("{lines:?} is not missing"),
            };
            assert_eq!(read.as_deref(), wanted, "{lines:?}");
        }
        for lines in [&[][..], &[&b""[..]]] {
            assert!(matches!(read(&headers(lines)), Authorization::Missing));
        }
    }

    #[test]
    fn the_text_of_a_header_is_ascii_and_of_one_line() {
        let text = |lines: &[&[u8]]| text(&headers(lines)).map(str::to_owned);
        assert_eq!(text(&[b"Bearer a"]).as_deref(), Some("Bearer a"));
        for lines in [&[][..], &["Bearer \u{e9}".as_bytes()], &[b"Bearer a", b"Bearer a"]] {
            assert_eq!(text(lines), None, "{lines:?}");
        }
    }
}
