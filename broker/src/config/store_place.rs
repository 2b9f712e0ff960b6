//! Where the store is: a file, memory, or a database.

use std::path::{Path, PathBuf};

use agentwrit_protocol::Sensitive;
use agentwrit_store::StoreLocation;
use agentwrit_store_postgres::Settings;

use super::settings::{self as set, Setting};

/// Where the store is.
#[derive(Debug, Clone)]
pub enum StorePlace {
    /// In one SQLite file, or in memory.
    Embedded(StoreLocation),
    /// In a database on PostgreSQL, which other replicas use too.
    Postgres(Box<Settings>),
}

impl StorePlace {
    /// The file, when it is in one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Embedded(location) => location.path(),
            Self::Postgres(_) => None,
        }
    }

    /// Reads the settings that name it.
    ///
    /// # Errors
    /// Every failure, one sentence each. Neither a URL nor the text of its file is in one: a password may be in either.
    pub(super) fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let text = |setting: &Setting| env(setting.name).filter(|value| !value.is_empty());
        let path = env(set::DB_PATH.name);
        let password_file = text(&set::DATABASE_PASSWORD_FILE).map(PathBuf::from);
        let mut failures = Vec::new();
        let url = match (text(&set::DATABASE_URL), text(&set::DATABASE_URL_FILE)) {
            (None, None) if password_file.is_none() => {
                return Ok(Self::Embedded(match path {
                    Some(path) if path.is_empty() => StoreLocation::Memory,
                    path => StoreLocation::File(PathBuf::from(path.unwrap_or_else(|| set::DB_PATH.default.to_owned()))),
                }));
            }
            (None, None) => {
                Err("AA_DATABASE_PASSWORD_FILE is set, but no database is named: set AA_DATABASE_URL too".to_owned())
            }
            (Some(_), Some(_)) => {
                Err("AA_DATABASE_URL and AA_DATABASE_URL_FILE are both set: only one of them may be".to_owned())
            }
            (Some(url), None) => Ok(Sensitive::from(url)),
            (None, Some(file)) => url_in(Path::new(&file)),
        };
        if path.is_some() {
            let both = "AA_DB_PATH and a database (AA_DATABASE_URL, AA_DATABASE_URL_FILE) are both set";
            failures.push(format!("{both}: only one of them may be"));
        }
        let parsed = url
            .and_then(|url| Settings::parse(url.expose(), password_file.as_deref()).map_err(|error| error.to_string()));
        match parsed {
            Ok(settings) if failures.is_empty() => Ok(Self::Postgres(Box::new(settings))),
            Ok(_) => Err(failures),
            Err(failure) => {
                failures.push(failure);
                Err(failures)
            }
        }
    }
}

/// The URL in a file; a line end at the end is not part of it.
fn url_in(file: &Path) -> Result<Sensitive, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("AA_DATABASE_URL_FILE={name}: {error}"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.contains(['\r', '\n']) {
        return Err(format!(
            "AA_DATABASE_URL_FILE={name} must hold one line, the URL of the database: postgres://ROLE@HOST/DATABASE"
        ));
    }
    Ok(Sensitive::from(text))
}
