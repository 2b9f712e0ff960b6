//! What ends a command, in the contract's words.

use agentwrit_client::{ConfigError, Error};

use crate::init::InitError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A flag is missing or wrong.
    #[error("{0}")]
    Usage(String),
    /// A variable is missing.
    #[error("{0} is not set")]
    NotSet(&'static str),
    /// The broker's URL or the CA can't be used.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// No CA was given and the system has none.
    #[error("no CA certificate: give the one that signed the broker's with --ca-cert or AACTL_CA_CERT")]
    NoCa,
    /// The login was refused.
    #[error("auth failed (HTTP {status}): {body}")]
    Auth {
        /// HTTP status.
        status: u16,
        /// As it came.
        body: String,
    },
    /// The request was refused.
    #[error("HTTP {status}: {body}")]
    Http {
        /// HTTP status.
        status: u16,
        /// As it came.
        body: String,
    },
    /// No answer, or none that can be read.
    #[error("request failed: {0}")]
    Request(String),
    /// `awrit init` failed.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The result can't be written.
    #[error("can't write the result: {0}")]
    Output(#[from] std::io::Error),
    /// The runtime can't start.
    #[error("can't start: {0}")]
    Runtime(#[source] std::io::Error),
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        match error.refusal() {
            Some(refusal) => Self::Http {
                status: refusal.status,
                body: body(&refusal.body),
            },
            None => Self::Request(error.to_string()),
        }
    }
}

impl CliError {
    /// The same for the login.
    pub(crate) fn auth(error: &Error) -> Self {
        match error.refusal() {
            Some(refusal) => Self::Auth {
                status: refusal.status,
                body: body(&refusal.body),
            },
            None => Self::Request(error.to_string()),
        }
    }
}

/// A body that can't play with the terminal.
fn body(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
