//! HTTP: extractors, handlers, problem responses. Rules live in the services, not here.

mod authorization;
mod cached;
mod client_address;
mod date;
pub mod error;
pub mod handlers;
mod layers;
mod malformed_head;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod query;
mod reply;
pub mod request;
pub mod router;
pub mod stack;

pub use crate::broker::{AppState, Broker};
use authorization::{authorize, authorize_actor};
pub use error::ApiError;
pub(crate) use malformed_head::{MAX_HEAD, MAX_HEADERS};
pub use reply::{reply, reply_text};
pub use request::ApiRequest;
pub use stack::HttpStack;

/// Header of a renewal that may be retried.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
