//! How much is logged, which may change while the broker runs.

use std::sync::atomic::{AtomicU8, Ordering};

use tracing::{Level, Metadata};

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// FAIL only.
    Quiet,
    /// OK, WARN and FAIL.
    Verbose,
    /// TRACE too.
    Trace,
}

impl LogLevel {
    /// The level that a word names: in any case, and an unknown word means verbose.
    pub fn of_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "quiet" => Self::Quiet,
            "trace" => Self::Trace,
            _ => Self::Verbose,
        }
    }

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Verbose => "verbose",
            Self::Trace => "trace",
        }
    }
}

/// Whether an event is ours: our targets are upper-case words, crates' are paths.
pub(super) fn ours(metadata: &Metadata<'_>) -> bool {
    metadata
        .target()
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// The level in force.
#[derive(Debug)]
pub(super) struct CurrentLevel(AtomicU8);

const fn number(level: LogLevel) -> u8 {
    match level {
        LogLevel::Quiet => 0,
        LogLevel::Verbose => 1,
        LogLevel::Trace => 2,
    }
}

impl CurrentLevel {
    pub(super) fn new(level: LogLevel) -> Self {
        Self(AtomicU8::new(number(level)))
    }

    pub(super) fn get(&self) -> LogLevel {
        match self.0.load(Ordering::Relaxed) {
            0 => LogLevel::Quiet,
            1 => LogLevel::Verbose,
            _ => LogLevel::Trace,
        }
    }

    /// Sets it and has tracing ask about every call site again.
    pub(super) fn set(&self, level: LogLevel) {
        self.0.store(number(level), Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Whether an event is written now. Nothing is taken from spans.
    pub(super) fn wants(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.is_span() {
            return false;
        }
        let most = match (self.get(), ours(metadata)) {
            (LogLevel::Quiet, _) => Level::ERROR,
            (_, false) => Level::WARN,
            (LogLevel::Verbose, true) => Level::INFO,
            (LogLevel::Trace, true) => Level::TRACE,
        };
        *metadata.level() <= most
    }
}
