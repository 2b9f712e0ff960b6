//! Errors of the driver, as the store knows them.

use agentwrit_store::{DatabaseFailure, Result, StoreError};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::advice;
use crate::schema::SCHEMA_VERSION;

/// Names the operation that a driver error came from.
pub(crate) trait Operation<T> {
    fn during(self, operation: &'static str) -> Result<T>;
}

impl<T> Operation<T> for std::result::Result<T, Error> {
    fn during(self, operation: &'static str) -> Result<T> {
        self.map_err(|error| failed(operation, &error))
    }
}

/// What the driver or the server said, as text: of a server's error its message and SQLSTATE. Neither detail nor
/// statement nor values are in it: those hold rows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Trouble(String);

/// An operation failed so, for this reason.
pub(crate) fn trouble(operation: &'static str, failure: DatabaseFailure, why: impl Into<String>) -> StoreError {
    StoreError::Database {
        operation,
        failure,
        source: Box::new(Trouble(why.into())),
        advice: "",
    }
}

/// The same error, and what to do about it.
pub(crate) fn advised(error: StoreError, advice: &'static str) -> StoreError {
    match error {
        StoreError::Database {
            operation,
            failure,
            source,
            ..
        } => StoreError::Database {
            operation,
            failure,
            source,
            advice,
        },
        other => other,
    }
}

/// Nothing was heard of an operation for as long as it may take.
pub(crate) fn hung(operation: &'static str) -> StoreError {
    trouble(operation, DatabaseFailure::Connection, NO_ANSWER)
}

/// The connection that an operation needs has ended.
pub(crate) fn gone(operation: &'static str) -> StoreError {
    trouble(operation, DatabaseFailure::Connection, "the connection is gone")
}

/// What is said of a database that is silent.
pub(crate) const NO_ANSWER: &str = "the database doesn't answer";

/// The error of an operation.
pub(crate) fn failed(operation: &'static str, error: &Error) -> StoreError {
    advised(trouble(operation, failure(error), described(error)), advice::of(error))
}

/// What it says, without what rows hold.
pub(crate) fn described(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

fn failure(error: &Error) -> DatabaseFailure {
    match error.code() {
        Some(code) => of_state(code),
        None if advice::is_about_access(advice::of(error)) => DatabaseFailure::Access,
        None if error.is_closed() || has_io(error) => DatabaseFailure::Connection,
        None if REFUSED.iter().any(|text| error.to_string().starts_with(text)) => DatabaseFailure::Access,
        None => DatabaseFailure::Other,
    }
}

/// What the driver says when what we have doesn't do for the server, such as no password.
const REFUSED: [&str; 2] = ["authentication error", "invalid configuration"];

/// Whether the system's error is behind it.
fn has_io(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        if next.is::<std::io::Error>() {
            return true;
        }
        cause = next.source();
    }
    false
}

/// SQLSTATE, classes first (PostgreSQL, appendix A).
fn of_state(code: &SqlState) -> DatabaseFailure {
    match code.code() {
        "53100" => DatabaseFailure::DiskFull,
        // Of a statement, of a lock; a transaction that idled.
        "57014" | "55P03" | "25P03" => DatabaseFailure::Timeout,
        // It is a standby, or set so.
        "25006" => DatabaseFailure::ReadOnly,
        "42501" => DatabaseFailure::Access,
        other => match other.get(..2) {
            // Connections; too many of them; shutting down, starting.
            Some("08" | "53" | "57") => DatabaseFailure::Connection,
            // Password, role; database.
            Some("28" | "3D") => DatabaseFailure::Access,
            // System error, damaged data.
            Some("58" | "XX") => DatabaseFailure::Io,
            _ => DatabaseFailure::Other,
        },
    }
}

/// Whether a failure is of the connection, so that it has to be made anew.
pub(crate) fn lost(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Database {
            failure: DatabaseFailure::Connection | DatabaseFailure::ReadOnly,
            ..
        }
    )
}

/// Whether a batch failed for more than its own content. What becomes of the next one is seen by opening the store again,
/// which takes the lock and writes: until that works, the store is away.
pub(crate) fn outlasts_batch(error: &StoreError) -> bool {
    lost(error)
        || matches!(
            error,
            StoreError::Corrupt {
                what: SCHEMA_VERSION,
                ..
            } | StoreError::Database {
                failure: DatabaseFailure::Timeout | DatabaseFailure::DiskFull | DatabaseFailure::Io,
                ..
            }
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_sorted_by_what_can_be_done_about_them() {
        for (code, wanted) in [
            ("53100", DatabaseFailure::DiskFull),
            ("53300", DatabaseFailure::Connection),
            ("57P01", DatabaseFailure::Connection),
            ("57P03", DatabaseFailure::Connection),
            ("08006", DatabaseFailure::Connection),
            ("57014", DatabaseFailure::Timeout),
            ("55P03", DatabaseFailure::Timeout),
            ("25P03", DatabaseFailure::Timeout),
            ("25006", DatabaseFailure::ReadOnly),
            ("28P01", DatabaseFailure::Access),
            ("28000", DatabaseFailure::Access),
            ("3D000", DatabaseFailure::Access),
            ("42501", DatabaseFailure::Access),
            ("58030", DatabaseFailure::Io),
            ("XX001", DatabaseFailure::Io),
            ("23505", DatabaseFailure::Other),
            ("42P01", DatabaseFailure::Other),
        ] {
            assert_eq!(of_state(&SqlState::from_code(code)), wanted, "{code}");
        }
    }
}
