//! Between tracing and the streams.

use std::sync::{Arc, Mutex, PoisonError};

use agentwrit_protocol::Clock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::level::CurrentLevel;
use super::line::Fields;
use super::writer::{Output, Urgency};
use crate::config::{LogFormat, LogLevel};
use crate::timestamp::rfc3339_seconds;

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
    last: Mutex<(i64, Arc<str>)>,
}

impl Stamps {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let last = Mutex::new((0, rfc3339_seconds(0).into()));
        Self { clock, last }
    }

    pub(super) fn time(&self) -> Arc<str> {
        let now = self.clock.unix_seconds();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != now {
            *last = (now, rfc3339_seconds(now).into());
        }
        Arc::clone(&last.1)
    }
}

/// What the span of a request carries for its lines.
struct RequestId(String);

#[derive(Default)]
struct FindRequestId(Option<String>);

impl Visit for FindRequestId {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "request_id" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
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

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut found = FindRequestId::default();
        attributes.record(&mut found);
        if let (Some(request_id), Some(span)) = (found.0, context.span(id)) {
            span.extensions_mut().insert(RequestId(request_id));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new(self.format);
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(RequestId(id)) = span.extensions().get() {
                fields.add("request_id", id);
                break;
            }
        }
        let metadata = event.metadata();
        let line = fields.line(metadata, &self.clock.time());
        if *metadata.level() == Level::ERROR {
            self.err.push(&line, Urgency::AtOnce);
        } else {
            self.out.push(&line, Urgency::Gathered);
        }
    }
}
