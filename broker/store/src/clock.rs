//! The clock of one transaction.

use agentwrit_protocol::{Times, UnixMillis, UnixSeconds};
use time::OffsetDateTime;

/// The time that a command decides by, read once when it starts.
pub trait TxClock {
    /// The wall clock.
    fn now(&self) -> OffsetDateTime;
    /// The same in milliseconds.
    fn now_millis(&self) -> UnixMillis {
        self.now().into()
    }
    /// The same in whole seconds.
    fn now_seconds(&self) -> UnixSeconds {
        self.now().into()
    }
    /// The clocks that tokens are judged by.
    fn times(&self) -> Times;
}
