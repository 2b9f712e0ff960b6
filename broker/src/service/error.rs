//! Errors that services share.

use agentwrit_protocol::EntropyError;
use agentwrit_protocol::problem::RATE_LIMITED;
use agentwrit_store::StoreError;

use super::session::token::SignError;

/// A failure inside the broker, for which no request is to blame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Internal {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Lets `?` turn the parts of [`Internal`] into the variant `Internal` of a service's own error.
macro_rules! from_internal {
    ($error:ty: $($part:ty),+) => {
        $(impl From<$part> for $error {
            fn from(error: $part) -> Self {
                Self::Internal(error.into())
            }
        })+
    };
}
pub(crate) use from_internal;

/// The caller comes too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{RATE_LIMITED}")]
pub(crate) struct RateLimited {
    /// When it may try again, in seconds.
    pub(crate) retry_after: u32,
}
