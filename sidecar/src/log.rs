//! Lines on standard output: time, level, text. Small on purpose: the sidecar runs once in every pod.

use std::io::Write;
use std::sync::Arc;

use agentwrit_protocol::one_line::one_line;
use agentwrit_protocol::timestamp::rfc3339_nanos;
use agentwrit_protocol::{Clock, UnixSeconds};
use time::OffsetDateTime;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// The ordinary course.
    Info,
    /// Something unusual, or something for a person to do.
    Warn,
}

/// Where lines go.
pub trait Sink: Send + Sync {
    /// Takes one line without its line feed.
    fn line(&self, line: &str);
}

/// Standard output.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stdout;

impl Sink for Stdout {
    fn line(&self, line: &str) {
        // A closed standard output is no reason to give up the token.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

/// Writes dated lines.
#[derive(Clone)]
pub struct Log {
    clock: Arc<dyn Clock>,
    sink: Arc<dyn Sink>,
}

impl Log {
    /// A log that takes the time from `clock`.
    pub fn new(clock: Arc<dyn Clock>, sink: Arc<dyn Sink>) -> Self {
        Self { clock, sink }
    }

    /// Writes one line; line feeds and other control characters in `text` become spaces.
    pub(crate) fn write(&self, level: Level, text: &str) {
        let level = match level {
            Level::Info => "INFO",
            Level::Warn => "WARN",
        };
        let text = one_line(text);
        let time = timestamp(self.clock.unix_seconds());
        self.sink.line(&format!("{time} {level} {text}"));
    }
}

/// RFC 3339 in UTC; the number itself when it is out of range.
pub(crate) fn timestamp(second: UnixSeconds) -> String {
    OffsetDateTime::from_unix_timestamp(second.get()).map_or_else(|_| second.to_string(), rfc3339_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::clock::ManualClock;
    use parking_lot::Mutex;

    struct Lines(Mutex<Vec<String>>);

    impl Sink for Lines {
        fn line(&self, line: &str) {
            self.0.lock().push(line.to_owned());
        }
    }

    #[test]
    fn a_notice_is_one_line_whatever_it_quotes() {
        let lines = Arc::new(Lines(Mutex::new(Vec::new())));
        let sink: Arc<dyn Sink> = lines.clone();
        let log = Log::new(Arc::new(ManualClock::at(0)), sink);
        log.write(Level::Warn, "refused: a\nb");
        assert_eq!(*lines.0.lock(), ["1970-01-01T00:00:00Z WARN refused: a b"]);
    }
}
