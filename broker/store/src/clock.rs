//! The clock of one transaction.

use agentwrit_protocol::Times;
use time::OffsetDateTime;

/// The time that a command decides by, read once when it starts.
pub trait TxClock {
    /// The wall clock.
    fn now(&self) -> OffsetDateTime;
    /// The same, Unix milliseconds.
    fn now_millis(&self) -> i64;
    /// The same, Unix seconds.
    fn now_seconds(&self) -> i64 {
        self.now().unix_timestamp()
    }
    /// The clocks that tokens are judged by.
    fn times(&self) -> Times;
}
