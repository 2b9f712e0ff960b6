//! The KEY=VALUE file (contract §17.2); a mounted Kubernetes Secret is fine.

use std::path::{Path, PathBuf};

use agentwrit_protocol::Sensitive;

/// What the file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Warned about at start.
    #[default]
    Development,
    /// Silent.
    Production,
}

/// The file's content.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) mode: Mode,
    pub(super) admin_secret: Option<Sensitive>,
}

/// The first file that is there: `AA_CONFIG_PATH`, `/etc/broker/config`, `~/.broker/config`.
pub(super) fn find(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<ConfigFile>, String> {
    if let Some(path) = env("AA_CONFIG_PATH").filter(|path| !path.is_empty()) {
        return read(Path::new(&path)).map(Some);
    }
    let mut places = vec![PathBuf::from("/etc/broker/config")];
    if let Some(home) = env("HOME").filter(|home| !home.is_empty()) {
        places.push(Path::new(&home).join(".broker/config"));
    }
    places
        .into_iter()
        .find(|place| std::fs::File::open(place).is_ok())
        .map(|place| read(&place))
        .transpose()
}

/// Reads one file.
pub(super) fn read(path: &Path) -> Result<ConfigFile, String> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("config file not found at path: {}", path.display()),
        std::io::ErrorKind::PermissionDenied => "failed to read config file: permission denied".to_owned(),
        _ => format!("failed to read config file: {error}"),
    })?;
    let mut file = ConfigFile {
        path: path.to_owned(),
        ..ConfigFile::default()
    };
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        match (key.trim(), value.trim()) {
            ("MODE", "development") => file.mode = Mode::Development,
            ("MODE", "production") => file.mode = Mode::Production,
            ("MODE", other) => {
                return Err(format!("config file: MODE {other:?} must be development or production"));
            }
            ("ADMIN_SECRET", secret) if !secret.is_empty() => file.admin_secret = Some(Sensitive::from(secret)),
            _ => {}
        }
    }
    Ok(file)
}
