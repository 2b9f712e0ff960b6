//! Log lines: `[AA:MODULE:LEVEL] time | COMPONENT | MESSAGE | context`, or JSON.
//!
//! The module is the event's target, the component its field `component`.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::Arc;

use agentwrit_protocol::Clock;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::config::{LogFormat, LogLevel};
use crate::timestamp::rfc3339_seconds;

const fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "FAIL",
        Level::WARN => "WARN",
        Level::INFO => "OK",
        Level::DEBUG | Level::TRACE => "TRACE",
    }
}

/// Whether an event is ours: our targets are upper-case words, crates' are paths.
fn ours(metadata: &Metadata<'_>) -> bool {
    metadata
        .target()
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Whether an event is written at this level of detail.
fn wanted(level: LogLevel, metadata: &Metadata<'_>) -> bool {
    let most = match (level, ours(metadata)) {
        (LogLevel::Quiet, _) => Level::ERROR,
        (_, false) => Level::WARN,
        (LogLevel::Verbose, true) => Level::INFO,
        (LogLevel::Trace, true) => Level::TRACE,
    };
    *metadata.level() <= most
}

/// FAIL goes to standard error, the rest to standard output.
struct Streams;

impl<'a> MakeWriter<'a> for Streams {
    type Writer = Box<dyn Write + 'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Box::new(io::stdout().lock())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        if *metadata.level() == Level::ERROR {
            Box::new(io::stderr().lock())
        } else {
            Box::new(io::stdout().lock())
        }
    }
}

#[derive(Default)]
struct Fields {
    component: String,
    message: String,
    context: Vec<(&'static str, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, text: String) {
        match field.name() {
            "component" => self.component = text,
            "message" => self.message = text,
            name => self.context.push((name, text)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

/// One line stays one line.
fn flat(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

struct Lines {
    clock: Arc<dyn Clock>,
    format: LogFormat,
}

impl Lines {
    fn line(&self, metadata: &Metadata<'_>, fields: &Fields) -> Result<String, fmt::Error> {
        let time = rfc3339_seconds(self.clock.unix_seconds());
        let module = if ours(metadata) { metadata.target() } else { "LIB" };
        let component = if fields.component.is_empty() {
            metadata.target()
        } else {
            &fields.component
        };
        let level = level_word(*metadata.level());
        if self.format == LogFormat::Json {
            let mut object = serde_json::Map::new();
            for (key, value) in [
                ("time", time.as_str()),
                ("module", module),
                ("level", level),
                ("component", component),
                ("message", &fields.message),
            ] {
                object.insert(key.to_owned(), value.into());
            }
            for (key, value) in &fields.context {
                object.entry(*key).or_insert_with(|| value.as_str().into());
            }
            return Ok(serde_json::Value::Object(object).to_string());
        }
        let mut line = format!("[AA:{module}:{level}] {time} | {component} | {}", flat(&fields.message));
        for (index, (key, value)) in fields.context.iter().enumerate() {
            write!(line, "{}{key}={}", if index == 0 { " | " } else { ", " }, flat(value))?;
        }
        Ok(line)
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        writeln!(writer, "{}", self.line(event.metadata(), &fields)?)
    }
}

/// Starts logging; a second call in one process changes nothing.
pub fn init(level: LogLevel, format: LogFormat, clock: Arc<dyn Clock>) {
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Lines { clock, format })
        .with_writer(Streams)
        .with_filter(FilterFn::new(move |metadata| wanted(level, metadata)));
    if Registry::default().with(layer).try_init().is_err() {
        tracing::trace!(target: "CFG", component = "Logging", "logging was started before");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::clock::ManualClock;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, format: LogFormat) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Lines {
                clock: Arc::new(ManualClock::at(0)),
                format,
            })
            .with_writer(move || writer.clone())
            .with_filter(FilterFn::new(move |metadata| wanted(level, metadata)));
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            tracing::error!(target: "STORE", component = "InitDB", error = "no\nspace", "store can't be opened");
            tracing::info!(target: "HTTP", component = "access", status = 200_u16, path = "/v1/health", "request");
            tracing::trace!(target: "HTTP", component = "Connection", "connection ended");
            tracing::info!("a crate's chatter");
        });
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn lines_have_the_contracts_form() {
        let text = logged(LogLevel::Verbose, LogFormat::Text);
        assert_eq!(
            text,
            "[AA:STORE:FAIL] 1970-01-01T00:00:00Z | InitDB | store can't be opened | error=no space\n\
             [AA:HTTP:OK] 1970-01-01T00:00:00Z | access | request | status=200, path=/v1/health\n"
        );
        assert_eq!(logged(LogLevel::Quiet, LogFormat::Text).lines().count(), 1);
        assert_eq!(logged(LogLevel::Trace, LogFormat::Text).lines().count(), 3);
    }

    #[test]
    fn json_lines_are_json() {
        let text = logged(LogLevel::Verbose, LogFormat::Json);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["component"], "InitDB");
        assert_eq!(first["level"], "FAIL");
    }
}
