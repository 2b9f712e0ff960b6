//! How much is logged, and where that is said.

use std::path::{Path, PathBuf};

use super::file;

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

/// Where the level comes from: `LOG_LEVEL` in the config file, which can change while the broker runs; `AA_LOG_LEVEL`
/// while the file has none.
#[derive(Debug, Clone)]
pub struct LevelSource {
    pub(super) places: Vec<PathBuf>,
    pub(super) environment: LogLevel,
}

impl LevelSource {
    /// The level that the file, or else the environment, asks for now.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn current(&self) -> Result<LogLevel, String> {
        let place = match self.places.as_slice() {
            // Named by the environment: it has to be there.
            [only] => Some(only),
            several => several.iter().find(|place| readable(place)),
        };
        let Some(place) = place else {
            return Ok(self.environment);
        };
        Ok(file::read(place)?.log_level.unwrap_or(self.environment))
    }
}

fn readable(place: &Path) -> bool {
    std::fs::File::open(place).is_ok()
}
