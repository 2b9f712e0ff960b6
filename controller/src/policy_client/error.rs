//! Why the broker doesn't hold what it should.

use agentwrit_protocol::ErrorCode;

use crate::report::{Categorised, Category};

/// Why the broker doesn't hold what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokerError {
    /// This replica doesn't lead: it may not write.
    #[error("this replica doesn't hold the Lease")]
    NotLeader,
    /// The broker can't be reached or can't serve.
    #[error("the broker is not available ({kind})")]
    Unavailable {
        /// A word for the condition; the source says more.
        kind: &'static str,
        #[source]
        source: Option<Box<agentwrit_client::Error>>,
    },
    /// A later writer or write came first: try again with a higher order.
    #[error("the broker has seen a later write")]
    Stale,
    #[error("the broker refused: {detail}")]
    Refused {
        /// The code of the closed vocabulary.
        code: ErrorCode,
        detail: String,
    },
}

impl Categorised for BrokerError {
    fn category(&self) -> Category {
        Category::Broker
    }
}

/// The broker can't be reached, or can't serve us.
pub(super) fn unavailable(error: agentwrit_client::Error) -> BrokerError {
    BrokerError::Unavailable {
        kind: error.kind(),
        source: Some(Box::new(error)),
    }
}
