//! Where it is said how much is logged.

use std::path::{Path, PathBuf};

use super::{LogLevel, file};

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
