//! Time and randomness as parameters, so that expiry, renewal and skew are tested without sleeping.

#[cfg(any(test, feature = "test-util"))]
mod manual;

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::time::{UnixMillis, UnixSeconds};

#[cfg(any(test, feature = "test-util"))]
pub use manual::{ManualClock, SequenceEntropy};

/// Where the current wall-clock time comes from.
pub trait Clock: Send + Sync {
    /// The current time, UTC.
    fn now(&self) -> OffsetDateTime;

    /// The same in whole seconds.
    fn unix_seconds(&self) -> UnixSeconds {
        self.now().into()
    }

    /// The same in milliseconds.
    fn unix_millis(&self) -> UnixMillis {
        self.now().into()
    }

    /// Time since a fixed moment, for intervals and rate limits. System clocks override it with a reading that
    /// doesn't jump with the wall clock.
    fn monotonic(&self) -> Duration {
        self.unix_millis().since(UnixMillis::default())
    }
}

/// The source of random bytes failed; nothing may be issued from it.
#[derive(Debug, thiserror::Error)]
#[error("the system's source of randomness failed: {0}")]
pub struct EntropyError(pub String);

/// Where unpredictable bytes come from.
pub trait Entropy: Send + Sync {
    /// Fills `buffer` with unpredictable bytes.
    ///
    /// # Errors
    /// When the operating system's generator is not available.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError>;
}

impl<T: Clock + ?Sized> Clock for Arc<T> {
    fn now(&self) -> OffsetDateTime {
        self.as_ref().now()
    }

    fn monotonic(&self) -> Duration {
        self.as_ref().monotonic()
    }
}

impl<T: Entropy + ?Sized> Entropy for Arc<T> {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        self.as_ref().fill(buffer)
    }
}
