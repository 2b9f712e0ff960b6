//! Columns of a row, read as what they count.

use agentwrit_protocol::{Ttl, UnixMillis, UnixNanos, UnixSeconds};
use agentwrit_store::Result;
use tokio_postgres::types::FromSql;

use crate::error::Operation;
use crate::value::decoded;

/// A row, and the operation that found it.
pub(crate) struct Row<'r> {
    pub(crate) row: &'r tokio_postgres::Row,
    pub(crate) operation: &'static str,
}

impl<'r> Row<'r> {
    fn get<T: FromSql<'r>>(&self, column: &str) -> Result<T> {
        self.row.try_get(column).during(self.operation)
    }

    pub(crate) fn whole(&self, column: &str) -> Result<i64> {
        self.get(column)
    }

    pub(crate) fn any_whole(&self, column: &str) -> Result<Option<i64>> {
        self.get(column)
    }

    pub(crate) fn flag(&self, column: &str) -> Result<bool> {
        self.get(column)
    }

    pub(crate) fn text(&self, column: &str) -> Result<String> {
        self.get(column).map(decoded)
    }

    pub(crate) fn any_text(&self, column: &str) -> Result<Option<String>> {
        Ok(self.get::<Option<String>>(column)?.map(decoded))
    }

    pub(crate) fn seconds(&self, column: &str) -> Result<UnixSeconds> {
        self.whole(column).map(UnixSeconds::new)
    }

    pub(crate) fn any_seconds(&self, column: &str) -> Result<Option<UnixSeconds>> {
        Ok(self.any_whole(column)?.map(UnixSeconds::new))
    }

    pub(crate) fn millis(&self, column: &str) -> Result<UnixMillis> {
        self.whole(column).map(UnixMillis::new)
    }

    pub(crate) fn any_millis(&self, column: &str) -> Result<Option<UnixMillis>> {
        Ok(self.any_whole(column)?.map(UnixMillis::new))
    }

    pub(crate) fn nanos(&self, column: &str) -> Result<UnixNanos> {
        self.whole(column).map(UnixNanos::new)
    }

    pub(crate) fn any_nanos(&self, column: &str) -> Result<Option<UnixNanos>> {
        Ok(self.any_whole(column)?.map(UnixNanos::new))
    }

    pub(crate) fn life(&self, column: &str) -> Result<Ttl> {
        self.whole(column).map(Ttl::seconds)
    }
}
