//! Why nothing gets into a database.

use agentwrit_store::StoreError;

use crate::error::failed;

/// Why nothing got into the database.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// Something is there.
    #[error(
        "the database isn't empty, it has {0}: name another one; or, if nothing of that is needed, DROP SCHEMA agentwrit CASCADE \
         with no broker running"
    )]
    NotEmpty(String),
    /// The tables are somebody else's.
    #[error(
        "the role {0} doesn't own the tables of the schema agentwrit: name the role in the URL that does, and let the broker's \
         role have what it needs by SELECT agentwrit.grant_broker('ROLE') afterwards"
    )]
    NotOwner(String),
    /// What arrived is not what was sent.
    #[error("{0} in the database is not what was sent")]
    Different(String),
    /// Not all of it was sent.
    #[error("the content didn't come to its end")]
    Incomplete,
    /// Somebody has stopped it.
    #[error("stopped by a signal: nothing was moved")]
    Stopped,
    /// The answer to the COMMIT was lost.
    #[error("whether it was moved isn't known, since the answer to the last step was lost: run it again ({0})")]
    Unknown(#[source] StoreError),
    /// The database, or what it holds.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ArrivalError {
    /// Of a statement.
    pub(super) fn of(operation: &'static str) -> impl Fn(tokio_postgres::Error) -> Self {
        move |error| Self::Store(failed(operation, &error))
    }
}

pub(super) type Result<T> = std::result::Result<T, ArrivalError>;
