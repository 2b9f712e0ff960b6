//! What a line looks like: `[AA:MODULE:LEVEL] time | COMPONENT | MESSAGE | context`, or a JSON object.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

use super::LogFormat;
use super::level::ours;

const fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "FAIL",
        Level::WARN => "WARN",
        Level::INFO => "OK",
        Level::DEBUG | Level::TRACE => "TRACE",
    }
}

/// Room for the context of most lines, bytes.
const USUAL: usize = 160;
/// Members that every JSON line has.
const RESERVED: [&str; 6] = ["time", "module", "level", "component", "message", "request_id"];

/// Collects an event's fields, the context as it will stand in the line.
pub(super) struct Fields {
    format: LogFormat,
    component: String,
    message: String,
    context: String,
}

impl Fields {
    pub(super) fn new(format: LogFormat) -> Self {
        Self {
            format,
            component: String::new(),
            message: String::new(),
            context: String::with_capacity(USUAL),
        }
    }

    /// Adds to the context. Writing to a String can't fail.
    pub(super) fn add(&mut self, key: &str, value: &dyn fmt::Display) {
        match self.format {
            LogFormat::Text => {
                self.context
                    .push_str(if self.context.is_empty() { " | " } else { ", " });
                self.context.push_str(key);
                self.context.push('=');
                let _ = write!(Flat(&mut self.context), "{value}");
            }
            LogFormat::Json => {
                let prefix = if RESERVED.contains(&key) && key != "request_id" {
                    "field_"
                } else {
                    ""
                };
                let _ = write!(self.context, ",\"{prefix}{key}\":{}", quoted(&value.to_string()));
            }
        }
    }

    fn number(&mut self, key: &str, value: &dyn fmt::Display) {
        match self.format {
            LogFormat::Text => self.add(key, value),
            LogFormat::Json => {
                let _ = write!(self.context, ",\"{key}\":{value}");
            }
        }
    }

    /// The whole line with its line feed.
    pub(super) fn line(self, metadata: &Metadata<'_>, time: &str) -> String {
        let module = if ours(metadata) { metadata.target() } else { "LIB" };
        let component = if self.component.is_empty() {
            metadata.target()
        } else {
            &self.component
        };
        let level = level_word(*metadata.level());
        match self.format {
            LogFormat::Text => {
                let mut line = String::with_capacity(USUAL + self.context.len());
                for part in ["[AA:", module, ":", level, "] ", time, " | ", component, " | "] {
                    line.push_str(part);
                }
                let _ = Flat(&mut line).write_str(&self.message);
                line.push_str(&self.context);
                line.push('\n');
                line
            }
            LogFormat::Json => format!(
                "{{\"time\":\"{time}\",\"module\":\"{module}\",\"level\":\"{level}\",\"component\":{},\"message\":{}{}}}\n",
                quoted(component),
                quoted(&self.message),
                self.context
            ),
        }
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "component" => value.clone_into(&mut self.component),
            "message" => value.clone_into(&mut self.message),
            name => self.add(name, &value),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field.name(), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field.name(), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field.name(), &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "component" => self.component = format!("{value:?}"),
            "message" => self.message = format!("{value:?}"),
            name => self.add(name, &format_args!("{value:?}")),
        }
    }
}

/// Writes text that stays on its line and in its order: no control characters, no line separators, no bidirectional
/// overrides.
struct Flat<'a>(&'a mut String);

impl Write for Flat<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let harmful = |c: char| {
            c.is_control()
                || matches!(
                    c,
                    '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
                )
        };
        if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_control()) {
            self.0.push_str(text);
        } else {
            self.0.extend(text.chars().map(|c| if harmful(c) { ' ' } else { c }));
        }
        Ok(())
    }
}
