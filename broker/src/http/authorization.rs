//! The `Authorization` header, and the check of its bearer before a handler does anything else.

use agentwrit_protocol::ErrorCode;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::{ApiError, ApiRequest, Broker};
use crate::service::authorize::{self, Authorization, AuthorizeError, Bearer, Requirement};

/// Checks the bearer of a request.
pub(super) async fn authorize(
    broker: &Broker,
    request: &ApiRequest,
    requirement: Requirement,
) -> Result<Bearer, ApiError> {
    let path = request.path();
    let bearer = authorize::authorize(broker, read(&request.headers), request.origin(&path), requirement).await?;
    Ok(bearer)
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
