//! Errors on their way to `application/problem+json`.

use agentwrit_json::Unreadable;
use agentwrit_protocol::{ErrorCode, Problem, UnixSeconds, go_json};
use agentwrit_store::StoreError;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode};

use crate::http::date::http_date;
use crate::service::error::{Internal, RateLimited};

/// What every refusal is (RFC 9457).
pub(super) const MEDIA_TYPE: &str = "application/problem+json";
/// Of a commit whose answer was lost, when the store can't be asked.
const NOT_KNOWN: &str = "the store is unavailable; whether this was done is not known";

/// What a handler refuses with; the problem layer adds path and request id.
#[derive(Debug, Clone)]
pub struct ApiError {
    problem: Box<Problem>,
    retry_after: Option<u32>,
    date: Option<UnixSeconds>,
    closes: bool,
}

impl ApiError {
    /// A problem with this code and detail.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            problem: Box::new(Problem::new(code, detail)),
            retry_after: None,
            date: None,
            closes: false,
        }
    }

    /// 400 `invalid_request`.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, detail)
    }

    /// 401 `unauthorized`.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unauthorized, detail)
    }

    /// 403 for a token that is revoked, with the text that clients look for.
    pub fn revoked(code: ErrorCode) -> Self {
        Self::new(code, "token has been revoked")
    }

    /// 503 `unavailable`: nothing changed, try again in a second.
    pub fn unavailable() -> Self {
        Self::new(ErrorCode::Unavailable, "the store is unavailable; nothing was changed").retry_after(1)
    }

    /// 500 `internal_error`.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InternalError, detail)
    }

    /// Sets `Retry-After`, seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Sets `Date` to the time that the refusal was decided by.
    #[must_use]
    pub fn date(mut self, moment: UnixSeconds) -> Self {
        self.date = Some(moment);
        self
    }

    /// Ends the connection after the answer: what is left of the request can't be told from a next one.
    #[must_use]
    pub(super) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Sets `hint`.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = Some(hint.into());
        self
    }

    /// Sets `current_epoch`, for `stale_writer`.
    #[must_use]
    pub fn current_epoch(mut self, epoch: i64) -> Self {
        self.problem.current_epoch = Some(epoch);
        self
    }

    /// The code.
    pub fn code(&self) -> Option<ErrorCode> {
        self.problem.code()
    }

    /// The problem, without path and request id.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The complete response.
    pub(super) fn render(mut self, path: &str, request_id: &str) -> Response {
        path.clone_into(&mut self.problem.instance);
        request_id.clone_into(&mut self.problem.request_id);
        let body = go_json::to_line(self.problem.as_ref());
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = self.retry_after {
            headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(date) = self.date.and_then(http_date) {
            headers.insert(http::header::DATE, date);
        }
        if self.closes {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Unknown) {
            return Self::new(ErrorCode::Unavailable, NOT_KNOWN).retry_after(1);
        }
        let cause = match error {
            StoreError::Clock => Some("the broker's clock is wrong, see /readyz"),
            StoreError::SigningKey => Some("the broker holds no key that may sign tokens, see /readyz"),
            StoreError::DiskFull => Some("the broker's disk is full, see /readyz"),
            StoreError::AuditFull => Some("the audit trail is full and can't be exported, see /readyz"),
            StoreError::StatusListsFull => Some("all status lists are full until sessions expire"),
            _ => None,
        };
        if let Some(cause) = cause {
            let detail = format!("{cause}; nothing was changed");
            return Self::new(ErrorCode::Unavailable, detail).retry_after(1);
        }
        // The committer has logged the cause.
        tracing::trace!(target: "HTTP", component = "Store", error = %error, "answering 503");
        Self::unavailable()
    }
}

impl From<Unreadable> for ApiError {
    fn from(error: Unreadable) -> Self {
        Self::invalid(error.brief())
    }
}

/// For services that have no sentence of their own for it.
impl From<Internal> for ApiError {
    fn from(error: Internal) -> Self {
        match error {
            Internal::Store(error) => error.into(),
            Internal::Entropy(error) => error.into(),
            Internal::Sign(_) => Self::internal("internal error"),
        }
    }
}

impl From<RateLimited> for ApiError {
    fn from(error: RateLimited) -> Self {
        Self::new(ErrorCode::RateLimited, error.to_string()).retry_after(error.retry_after)
    }
}

impl From<agentwrit_protocol::EntropyError> for ApiError {
    fn from(error: agentwrit_protocol::EntropyError) -> Self {
        tracing::error!(target: "HTTP", component = "Entropy", error = %error, "no randomness");
        Self::internal("no randomness is available")
    }
}

impl IntoResponse for ApiError {
    /// Leaves the error in the response's extensions, for the problem layer to render.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
