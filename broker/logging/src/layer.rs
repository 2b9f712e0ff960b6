//! Between tracing and the streams.

use std::sync::Arc;

use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_protocol::{Clock, UnixSeconds};
use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::LogFormat;
use super::REQUEST_ID;
use super::level::{CurrentLevel, LogLevel};
use super::line::Fields;
use super::writer::{Output, Urgency};

/// Writes events as lines; FAIL to standard error, the rest to standard output.
pub(super) struct Lines {
    pub(super) level: Arc<CurrentLevel>,
    pub(super) format: LogFormat,
    pub(super) clock: Stamps,
    pub(super) out: Output,
    pub(super) err: Output,
}

/// The time as lines have it, written once a second.
pub(super) struct Stamps {
    clock: Arc<dyn Clock>,
    last: Mutex<(UnixSeconds, Arc<str>)>,
}

impl Stamps {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let first = UnixSeconds::default();
        let last = Mutex::new((first, rfc3339_seconds(first).into()));
        Self { clock, last }
    }

    pub(super) fn time(&self) -> Arc<str> {
        let now = self.clock.unix_seconds();
        let mut last = self.last.lock();
        if last.0 != now {
            *last = (now, rfc3339_seconds(now).into());
        }
        Arc::clone(&last.1)
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.level.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.level.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level.get() {
            LogLevel::Quiet => LevelFilter::ERROR,
            LogLevel::Verbose => LevelFilter::INFO,
            LogLevel::Trace => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::new(self.format);
        event.record(&mut fields);
        // Outside a request there is none.
        let _ = REQUEST_ID.try_with(|id| fields.add("request_id", id));
        let metadata = event.metadata();
        let line = fields.line(metadata, &self.clock.time());
        if *metadata.level() == Level::ERROR {
            self.err.push(&line, Urgency::AtOnce);
        } else {
            self.out.push(&line, Urgency::Gathered);
        }
    }
}
