//! The KEY=VALUE file (`docs/wire-contract.md` §17.2); a mounted Kubernetes Secret is fine.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use agentwrit_protocol::Sensitive;

use super::LogLevel;
use super::settings::CONFIG_PATH;

/// Some editors put it first.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// What is beyond isn't read: the path may name anything.
const MOST_BYTES: u64 = 1_048_576;

/// How much of a word is repeated in a warning, characters.
const SHOWN: usize = 32;

/// What the file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Warned about at start.
    #[default]
    Development,
    /// Silent.
    Production,
}

impl Mode {
    fn of_word(word: &str) -> Option<Self> {
        match word {
            "development" => Some(Self::Development),
            "production" => Some(Self::Production),
            _ => None,
        }
    }
}

/// The file's content.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) mode: Mode,
    /// A MODE that there isn't; the mode is then production, whose rules are the stricter ones.
    pub(super) unknown_mode: Option<String>,
    pub(super) admin_secret: Option<Sensitive>,
    pub(super) log_level: Option<LogLevel>,
}

/// Where a file may be: `AA_CONFIG_PATH`, which then has to be there; or `/etc/broker/config`, `~/.broker/config`.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) paths: Vec<PathBuf>,
    required: bool,
}

impl Places {
    pub(super) fn new(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| env(name).filter(|path| !path.is_empty());
        if let Some(path) = given(CONFIG_PATH.name) {
            return Self {
                paths: vec![PathBuf::from(path)],
                required: true,
            };
        }
        let mut paths = vec![PathBuf::from("/etc/broker/config")];
        paths.extend(given("HOME").map(|home| Path::new(&home).join(".broker/config")));
        Self { paths, required: false }
    }

    /// The first readable one.
    pub(super) fn read(&self) -> Result<Option<ConfigFile>, String> {
        let found = self.paths.iter().find(|path| self.required || File::open(path).is_ok());
        found.map(|path| read(path)).transpose()
    }
}

/// Reads one file.
pub(super) fn read(path: &Path) -> Result<ConfigFile, String> {
    let text = text(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("config file not found at path: {}", path.display()),
        std::io::ErrorKind::PermissionDenied => "failed to read config file: permission denied".to_owned(),
        _ => format!("failed to read config file: {error}"),
    })?;
    let mut file = ConfigFile {
        path: path.to_owned(),
        ..ConfigFile::default()
    };
    for line in text
        .trim_start_matches(BYTE_ORDER_MARK)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let given = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        match (key.trim(), value.trim()) {
            ("MODE", word) => {
                let known = Mode::of_word(word);
                file.mode = known.unwrap_or(Mode::Production);
                file.unknown_mode = known.is_none().then(|| word.chars().take(SHOWN).collect());
            }
            // Of several lines with one key the last counts.
            ("ADMIN_SECRET", secret) => file.admin_secret = given(secret).map(Sensitive::from),
            ("LOG_LEVEL", word) => file.log_level = given(word).map(|word| LogLevel::of_word(&word)),
            _ => {}
        }
    }
    Ok(file)
}

fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
