//! Cached statements, each with the name that errors and metrics give it.

use agentwrit_store::Result;
use rusqlite::{Connection, Params, Row, Transaction, TransactionBehavior};

use super::error::Operation;

/// What a connection is asked to do; every statement text is compiled once a connection.
pub(super) trait Statements {
    /// Runs a statement and returns how many rows it changed.
    fn change(&self, operation: &'static str, sql: &str, values: impl Params) -> Result<usize>;

    /// The first row of a query.
    fn first<T>(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>>;

    /// Hands every row of a query to `take`.
    fn each(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl Params,
        take: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()>;

    /// Every row of a query.
    fn all<T>(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>>;
}

impl Statements for Connection {
    fn change(&self, operation: &'static str, sql: &str, values: impl Params) -> Result<usize> {
        self.prepare_cached(sql)
            .and_then(|mut statement| statement.execute(values))
            .during(operation)
    }

    fn first<T>(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.prepare_cached(sql).during(operation)?;
        let mut rows = statement.query(values).during(operation)?;
        rows.next().during(operation)?.map(read).transpose()
    }

    fn each(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl Params,
        mut take: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut statement = self.prepare_cached(sql).during(operation)?;
        let mut rows = statement.query(values).during(operation)?;
        while let Some(row) = rows.next().during(operation)? {
            take(row)?;
        }
        Ok(())
    }

    fn all<T>(
        &self,
        operation: &'static str,
        sql: &str,
        values: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        self.each(operation, sql, values, |row| {
            found.push(read(row)?);
            Ok(())
        })?;
        Ok(found)
    }
}

/// Begins a transaction that writes.
pub(super) fn begin<'c>(connection: &'c mut Connection, operation: &'static str) -> Result<Transaction<'c>> {
    connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .during(operation)
}

/// The only column of a row.
pub(super) fn scalar<T: rusqlite::types::FromSql>(operation: &'static str) -> impl Fn(&Row<'_>) -> Result<T> {
    move |row| row.get(0).during(operation)
}
