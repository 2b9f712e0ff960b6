//! Errors of the driver, as the store knows them.

use rusqlite::ErrorCode;

use agentwrit_store::{DatabaseFailure, Result, StoreError};

/// Names the operation that a driver error came from.
pub(super) trait Operation<T> {
    fn during(self, operation: &'static str) -> Result<T>;
}

impl<T> Operation<T> for std::result::Result<T, rusqlite::Error> {
    fn during(self, operation: &'static str) -> Result<T> {
        self.map_err(|source| StoreError::Database {
            operation,
            failure: failure(&source),
            source: Box::new(source),
            advice: "",
        })
    }
}

fn failure(error: &rusqlite::Error) -> DatabaseFailure {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => DatabaseFailure::DiskFull,
        Some(ErrorCode::SystemIoFailure) => DatabaseFailure::Io,
        _ => DatabaseFailure::Other,
    }
}
