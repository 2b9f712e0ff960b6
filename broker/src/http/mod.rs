//! HTTP: extractors, handlers, problem responses. Rules live in the services, not here.

pub mod bearer;
mod body;
pub mod call;
pub mod error;
pub mod front;
pub mod handlers;
pub mod json;
mod paths;
pub mod query;
pub mod router;
mod unread;

pub use crate::broker::{AppState, Broker};
pub use bearer::{Bearer, Guard, authenticate};
pub use call::Call;
pub use error::ApiError;
pub use front::Front;
pub use json::{reply, reply_text};
pub(crate) use unread::{MAX_HEAD, MAX_HEADERS};

/// The answer to a caller that comes too often, audited now and then.
pub fn limited(broker: &Broker, call: &Call) -> ApiError {
    broker.audit_rate_limit(call.source, &call.path());
    ApiError::rate_limited()
}

/// Header of a renewal that may be retried.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
