//! `awrit init`: a configuration file with a new admin secret, for a broker outside Kubernetes.

use std::fs::{DirBuilder, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agentwrit_protocol::Entropy;
use agentwrit_protocol::system::SystemEntropy;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::Environment;
use crate::args::InitArgs;
use crate::error::CliError;
use crate::init_error::InitError;
use crate::output::Output;

const BCRYPT_COST: u32 = 12;
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

enum Mode {
    Development,
    Production,
}

impl Mode {
    fn parse(text: &str) -> Result<Self, InitError> {
        match text {
            "dev" => Ok(Self::Development),
            "prod" => Ok(Self::Production),
            other => Err(InitError::Mode(other.to_owned())),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }

    fn note(&self) -> &'static str {
        match self {
            Self::Development => "Mode: development (the secret is in the file in plain text)",
            Self::Production => {
                "Mode: production (the file holds only a hash: the secret is shown this once, save it now)"
            }
        }
    }
}

/// Makes the secret and writes the file.
pub(crate) fn run(args: &InitArgs, environment: Environment<'_>, output: &mut Output<'_>) -> Result<(), CliError> {
    let mode = Mode::parse(&args.mode)?;
    let path = config_path(args.config_path.as_deref(), environment);
    if args.force {
        output.note(&format!(
            "WARNING: --force replaces {}; its admin secret is lost",
            path.display()
        ))?;
    }
    let mut bytes = [0_u8; 32];
    SystemEntropy.fill(&mut bytes).map_err(InitError::from)?;
    let secret = URL_SAFE_NO_PAD.encode(bytes);
    let stored = match mode {
        Mode::Development => secret.clone(),
        Mode::Production => hash(&secret)?,
    };
    let text = format!(
        "# AgentWrit broker, written by awrit init.\nMODE={}\nADMIN_SECRET={stored}\n",
        mode.name()
    );
    write(&path, &text, args.force)?;
    let value = json!({"config_path": path.display().to_string(), "admin_secret": secret, "mode": mode.name()});
    let lines = [
        format!("Config written to: {}", path.display()),
        format!("Admin secret: {secret}"),
        mode.note().to_owned(),
    ];
    output.lines(&value, &lines)?;
    Ok(())
}

fn config_path(flag: Option<&Path>, environment: Environment<'_>) -> PathBuf {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    flag.map(Path::to_owned)
        .or_else(|| set("AA_CONFIG_PATH").map(PathBuf::from))
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".broker/config")))
        .unwrap_or_else(|| PathBuf::from("/etc/broker/config"))
}

fn hash(secret: &str) -> Result<String, InitError> {
    let mut salt = [0_u8; 16];
    SystemEntropy.fill(&mut salt)?;
    let parts = bcrypt::hash_with_salt(secret, BCRYPT_COST, salt)?;
    Ok(parts.format_for_version(bcrypt::Version::TwoB))
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), InitError> {
    let (Some(_), Some(folder)) = (path.file_name(), path.parent()) else {
        return Err(InitError::NotAFile(path.to_owned()));
    };
    match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => return Err(InitError::Symlink(path.to_owned())),
        Ok(found) if !found.is_file() => return Err(InitError::NotAFile(path.to_owned())),
        Ok(_) if !force => return Err(InitError::Exists(path.to_owned())),
        Ok(_) | Err(_) => {}
    }
    let failed = |at: &Path| {
        let path = at.to_owned();
        move |source| InitError::Write { path, source }
    };
    if !folder.as_os_str().is_empty() && !folder.is_dir() {
        let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(folder);
        made.map_err(failed(folder))?;
    }
    // A new file, renamed: no old permissions stay, no symlink is followed, and no reader sees half of it.
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let written = unnamed(folder, text).and_then(|file| {
        let persisted = if force {
            file.persist(path)
        } else {
            file.persist_noclobber(path)
        };
        persisted.map_err(|failure| failure.error)
    });
    match written {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(InitError::Exists(path.to_owned())),
        Err(error) => Err(failed(path)(error)),
    }
}

/// A whole file in `folder` that hasn't its name yet, and goes when it gets none.
fn unnamed(folder: &Path, text: &str) -> std::io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in(folder)?;
    file.as_file().set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}
