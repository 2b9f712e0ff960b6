//! A connection while one transaction uses it. What needs no answer is sent without a wait for it, and what is asked next
//! follows on its heels: the server works through both in order, and a round trip is paid for questions only.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use agentwrit_store::{Result, StoreError};
use deadpool_postgres::ClientWrapper;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio_postgres::types::ToSql;

use crate::error::Operation;
use crate::row::Row;
use crate::value::Value;

/// Statements on their way at most: bounds what answers and values take.
const MOST_SENT: usize = 128;

type Sent<'c> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'c>>;

/// A connection between BEGIN and COMMIT.
pub(crate) struct Link<'c> {
    client: &'c ClientWrapper,
    sent: FuturesOrdered<Sent<'c>>,
    /// The first failure among what was sent: all that comes after it fails because of it.
    failed: Option<StoreError>,
}

impl<'c> Link<'c> {
    pub(crate) fn new(client: &'c ClientWrapper) -> Self {
        Self {
            client,
            sent: FuturesOrdered::new(),
            failed: None,
        }
    }

    /// A transaction that only reads, of one moment.
    pub(crate) async fn begin_read(client: &'c ClientWrapper) -> Result<Self> {
        let mut link = Self::new(client);
        link.send_text("begin_read", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        Ok(link)
    }

    /// Ends such a transaction.
    pub(crate) async fn end_read(mut self) -> Result<()> {
        self.send_text("end_read", "ROLLBACK").await?;
        self.settle().await
    }

    /// Hears what was sent, as far as it is answered. Also while something else is waited for: the driver holds up all
    /// answers for one that nobody takes.
    fn hear(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(Some(answer)) = self.sent.poll_next_unpin(context) {
            if let Err(error) = answer {
                self.failed.get_or_insert(error);
            }
        }
    }

    async fn while_hearing<T>(&mut self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let mut answer = pin!(answer);
        let answer = poll_fn(|context| {
            self.hear(context);
            answer.as_mut().poll(context)
        })
        .await;
        match answer {
            Ok(found) => Ok(found),
            Err(error) => {
                // What failed first says why.
                self.heard().await;
                Err(self.failed.take().unwrap_or(error))
            }
        }
    }

    async fn heard(&mut self) {
        poll_fn(|context| {
            self.hear(context);
            if self.sent.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Waits until all that was sent is done.
    ///
    /// # Errors
    /// When any of it failed: the first failure.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        self.heard().await;
        self.failed.take().map_or(Ok(()), Err)
    }

    async fn push(&mut self, sent: Sent<'c>) -> Result<()> {
        if self.sent.len() >= MOST_SENT {
            self.settle().await?;
        }
        self.sent.push_back(sent);
        // It is on its way once it was polled.
        poll_fn(|context| {
            self.hear(context);
            Poll::Ready(())
        })
        .await;
        Ok(())
    }

    /// Sends a text without values, such as BEGIN.
    pub(crate) async fn send_text(&mut self, operation: &'static str, sql: &'static str) -> Result<()> {
        let client = self.client;
        self.push(Box::pin(
            async move { client.batch_execute(sql).await.during(operation) },
        ))
        .await
    }

    /// Sends a change without a wait for it.
    pub(crate) async fn send(&mut self, operation: &'static str, sql: &'static str, values: Vec<Value>) -> Result<()> {
        let client = self.client;
        let preparing = async { client.prepare_cached(sql).await.during(operation) };
        let statement = self.while_hearing(preparing).await?;
        let sent = async move {
            let done = client.execute_raw(&statement, &values).await;
            done.map(drop).during(operation)
        };
        self.push(Box::pin(sent)).await
    }

    /// The same for a change of exactly one row, which was read under the lock: another number fails the transaction.
    pub(crate) async fn send_for_one(
        &mut self,
        operation: &'static str,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<()> {
        let client = self.client;
        let preparing = async { client.prepare_cached(sql).await.during(operation) };
        let statement = self.while_hearing(preparing).await?;
        let sent = async move {
            let changed = client.execute_raw(&statement, &values).await.during(operation)?;
            if changed == 1 {
                return Ok(());
            }
            Err(StoreError::Corrupt {
                what: operation,
                why: format!("changed {changed} rows in place of the one that was read under the lock"),
            })
        };
        self.push(Box::pin(sent)).await
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn change(
        &mut self,
        operation: &'static str,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<u64> {
        let client = self.client;
        let changing = async {
            let statement = client.prepare_cached(sql).await?;
            client.execute_raw(&statement, &values).await
        };
        self.while_hearing(async { changing.await.during(operation) }).await
    }

    /// Every row of a query.
    pub(crate) async fn all<T>(
        &mut self,
        operation: &'static str,
        sql: &'static str,
        values: Vec<Value>,
        read: impl Fn(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let client = self.client;
        let asking = async {
            let statement = client.prepare_cached(sql).await?;
            let values: Vec<&(dyn ToSql + Sync)> =
                values.iter().map(|value| -> &(dyn ToSql + Sync) { value }).collect();
            client.query(&statement, &values).await
        };
        let rows = self.while_hearing(async { asking.await.during(operation) }).await?;
        rows.iter().map(|row| read(&Row { row, operation })).collect()
    }

    /// Hands every row of a query to `take`, as the rows come.
    pub(crate) async fn each(
        &mut self,
        operation: &'static str,
        sql: &'static str,
        values: Vec<Value>,
        mut take: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let client = self.client;
        let taking = async {
            let statement = client.prepare_cached(sql).await.during(operation)?;
            let rows = client.query_raw(&statement, &values).await.during(operation)?;
            let mut rows = pin!(rows);
            while let Some(row) = rows.next().await {
                let row = &row.during(operation)?;
                take(&Row { row, operation })?;
            }
            Ok(())
        };
        self.while_hearing(taking).await
    }

    /// The first row of a query, which finds one at most.
    pub(crate) async fn first<T>(
        &mut self,
        operation: &'static str,
        sql: &'static str,
        values: Vec<Value>,
        read: impl Fn(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.all(operation, sql, values, read).await?.into_iter().next())
    }

    /// Every row of a query whose text is made for it, and isn't kept prepared.
    pub(crate) async fn all_once<T>(
        &mut self,
        operation: &'static str,
        sql: &str,
        values: Vec<Value>,
        read: impl Fn(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let client = self.client;
        let asking = async {
            let typed: Vec<_> = values
                .iter()
                .map(|value| -> (&(dyn ToSql + Sync), _) { (value, value.kind()) })
                .collect();
            client.query_typed(sql, &typed).await
        };
        let rows = self.while_hearing(async { asking.await.during(operation) }).await?;
        rows.iter().map(|row| read(&Row { row, operation })).collect()
    }
}
