//! What ends a command, in the contract's words.

use std::path::PathBuf;

use agentwrit_client::{ConfigError, Error};
use agentwrit_protocol::one_line::one_line;

use crate::init_error::InitError;

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
    #[error("request failed: {0}")]
    Config(#[from] ConfigError),
    /// A client certificate without its key, or the reverse.
    #[error("a {given} is given alone: {missing} is missing")]
    HalfCertificate { given: &'static str, missing: &'static str },
    /// No CA was given and the system has none.
    #[error("no CA certificate: give the one that signed the broker's with --ca-cert or AACTL_CA_CERT")]
    NoCa,
    /// The login was refused.
    #[error("auth failed (HTTP {status}): {body}")]
    Auth { status: u16, body: String },
    /// The request was refused.
    #[error("HTTP {status}: {body}")]
    Http { status: u16, body: String },
    /// The broker says that the token isn't valid.
    #[error("{0}")]
    Invalid(String),
    /// No answer, or none that can be read.
    #[error("request failed: {0}")]
    Request(String),
    /// A file can't be used.
    #[error("{}: {reason}", path.display())]
    File {
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The audit trail doesn't verify.
    #[error("the audit trail is broken at {event}: {problem}")]
    Broken {
        /// Id of the first event that doesn't fit.
        event: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `awrit doctor` found something.
    #[error("{failed} of {checks} checks failed")]
    ChecksFailed { failed: usize, checks: usize },
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
            None => Self::no_answer(&error),
        }
    }
}

impl CliError {
    /// What to try next, to be put after the error.
    pub(crate) const fn advice(&self) -> &'static str {
        match self {
            Self::Request(_) => "; run awrit doctor to find the cause",
            _ => "",
        }
    }

    /// The same for the login.
    pub(crate) fn auth(error: &Error) -> Self {
        match error.refusal() {
            Some(refusal) => Self::Auth {
                status: refusal.status,
                body: body(&refusal.body),
            },
            None => Self::no_answer(error),
        }
    }

    fn no_answer(error: &Error) -> Self {
        let hint = if error.wants_client_certificate() {
            "; the broker asks for a client certificate that it trusts: --client-cert and --client-key"
        } else {
            ""
        };
        Self::Request(format!("{}{hint}", one_line(&error.to_string())))
    }
}

/// A body without its line end.
fn body(text: &str) -> String {
    one_line(text.trim())
}
