//! Logging: lines of the contract's form or JSON objects, with the request id of the request they belong to.
//!
//! The module is an event's target, the component its field `component`. No caller waits for a line to be written: each
//! stream has a thread (`writer`).
#![deny(missing_docs)]

mod layer;
mod level;
mod line;
mod panic;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::sync::Arc;

use agentwrit_protocol::Clock;
use agentwrit_protocol::timestamp::rfc3339_seconds;
use prometheus::IntCounter;
use tokio::task::futures::TaskLocalFuture;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::layer::{Lines, Stamps};
use self::level::CurrentLevel;
pub use self::level::LogLevel;
pub use self::panic::log_panics;
use self::writer::{Output, Urgency};

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `[AA:MODULE:LEVEL] time | COMPONENT | MESSAGE | context`.
    Text,
    /// One JSON object a line.
    Json,
}

tokio::task_local! {
    static REQUEST_ID: Arc<str>;
}

/// Every line that is logged while `make` makes a future, and while that runs, tells this request id. Cheaper than a
/// span, of which nothing else would be used.
pub fn within_request<F: Future>(request_id: Arc<str>, make: impl FnOnce() -> F) -> TaskLocalFuture<Arc<str>, F> {
    let future = REQUEST_ID.sync_scope(Arc::clone(&request_id), make);
    REQUEST_ID.scope(request_id, future)
}

/// The process's log.
pub struct Log {
    level: Arc<CurrentLevel>,
    out: Output,
    err: Output,
    lost: IntCounter,
}

impl Log {
    /// Starts logging; in a process that logs already the lines go where they went.
    ///
    /// # Errors
    /// When there is no thread to write.
    pub fn start(level: LogLevel, format: LogFormat, clock: &Arc<dyn Clock>) -> io::Result<Self> {
        let lost = IntCounter::new("log_lines_lost_total", "Log lines lost because nobody read the stream")
            .map_err(io::Error::other)?;
        let output = |stream: Box<dyn io::Write + Send>| {
            let clock = Arc::clone(clock);
            let line = Box::new(move |count| lost_line(format, &rfc3339_seconds(clock.unix_seconds()), count));
            Output::to(stream, lost.clone(), line)
        };
        let log = Self {
            level: Arc::new(CurrentLevel::new(level)),
            out: output(Box::new(io::stdout()))?,
            err: output(Box::new(io::stderr()))?,
            lost: lost.clone(),
        };
        let lines = Lines {
            level: Arc::clone(&log.level),
            format,
            clock: Stamps::new(Arc::clone(clock)),
            out: log.out.clone(),
            err: log.err.clone(),
        };
        if Registry::default().with(lines).try_init().is_err() {
            tracing::trace!(target: "CFG", component = "Logging", "logging was started before");
        }
        Ok(log)
    }

    /// The level in force.
    pub fn level(&self) -> LogLevel {
        self.level.get()
    }

    /// Changes the level.
    pub fn set_level(&self, level: LogLevel) {
        self.level.set(level);
    }

    /// Writes a line of its own form to standard output.
    pub fn say(&self, line: &str) {
        self.out.push(&format!("{line}\n"), Urgency::AtOnce);
    }

    /// Lines lost since the start: a metric to register.
    pub fn lost(&self) -> IntCounter {
        self.lost.clone()
    }

    /// Writes what waits; later lines are lost.
    pub fn close(&self) {
        self.err.close();
        self.out.close();
    }
}

fn lost_line(format: LogFormat, time: &str, count: u64) -> String {
    match format {
        LogFormat::Text => format!("[AA:LOG:WARN] {time} | Writer | lines were lost | count={count}\n"),
        LogFormat::Json => format!(
            "{{\"time\":\"{time}\",\"module\":\"LOG\",\"level\":\"WARN\",\"component\":\"Writer\",\"message\":\"lines were lost\",\"count\":{count}}}\n"
        ),
    }
}
