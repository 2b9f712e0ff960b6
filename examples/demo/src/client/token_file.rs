//! The token file, read anew for each call: the sidecar replaces it under our hands.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// What may be shown of a token. The client needs none of it; it is for the people who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The agent.
    pub sub: String,
    /// The token's id.
    pub jti: String,
    /// What it allows.
    pub scope: Vec<String>,
    /// Whole life, seconds.
    pub life: i64,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The file can't be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{0} holds no JWT")]
    NotAToken(PathBuf),
}

#[derive(Deserialize)]
struct Payload {
    sub: String,
    jti: String,
    #[serde(default)]
    scope: Vec<String>,
    iat: i64,
    exp: i64,
}

/// The token, and what may be shown of it. Its signature is the service's business.
///
/// # Errors
/// See [`TokenFileError`].
pub fn read(path: &Path) -> Result<(String, Shown), TokenFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| TokenFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let token = text.trim().to_owned();
    let payload = token
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .and_then(|bytes| serde_json::from_slice::<Payload>(&bytes).ok())
        .ok_or_else(|| TokenFileError::NotAToken(path.to_owned()))?;
    let shown = Shown {
        sub: payload.sub,
        jti: payload.jti,
        scope: payload.scope,
        life: payload.exp.saturating_sub(payload.iat),
    };
    Ok((token, shown))
}
