//! Columns that may be NULL, read as what their numbers count.

use agentwrit_protocol::{UnixMillis, UnixSeconds};
use rusqlite::{Result, Row, RowIndex};

/// A column of Unix seconds.
pub(crate) fn any_seconds(row: &Row<'_>, column: impl RowIndex) -> Result<Option<UnixSeconds>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(UnixSeconds::new))
}

/// A column of Unix milliseconds.
pub(crate) fn any_millis(row: &Row<'_>, column: impl RowIndex) -> Result<Option<UnixMillis>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(UnixMillis::new))
}
