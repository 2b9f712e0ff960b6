//! What can go wrong while loading a broker.

use std::io;

/// Why a load, or the broker under it, can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A socket, file or process.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection ended, or what came over it is no HTTP.
    #[error("connection: {0}")]
    Connection(String),
    /// The broker answered something else than the operation needs.
    #[error("{what}: unexpected answer {status}: {body}")]
    Answer {
        /// The operation.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// The broker did not do in time what it should.
    #[error("{0}")]
    Broker(String),
}

impl Failure {
    /// For `map_err` on what the system refuses.
    pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// What most functions here return.
pub type Result<T> = std::result::Result<T, Failure>;
