//! What has arrived, read back.

use std::pin::pin;

use agentwrit_protocol::audit::ChainWalker;
use agentwrit_store::content::{Cell, Digest, Kind, Stage, TABLES, Table};
use agentwrit_store::{MetaKey, StoreError};
use agentwrit_trail::{ChainHead, checkpoint_from_text};
use futures_util::TryStreamExt;

use super::error::{ArrivalError, Result};
use super::{Arrival, names};
use crate::audit::head;
use crate::error::Operation;
use crate::facts;
use crate::link::Link;
use crate::row::Row;
use crate::value::{Value, values};

const VERIFY: &str = "verify_move";
/// How often it is told how far it is.
const TELL_EVERY: i64 = 500;

impl Arrival<'_> {
    /// Reads everything and compares it with what was sent.
    pub(super) async fn verify(&self, head: &ChainHead) -> Result<()> {
        for (table, sent) in TABLES.iter().zip(self.digests) {
            if self.digest(table).await? != sent {
                return Err(ArrivalError::Different(format!("the table {}", table.name)));
            }
        }
        self.walk(head).await?;
        // As a broker does that opens it.
        head::verify_tail(&mut Link::new(self.client), head, self.keys).await?;
        Ok(())
    }

    async fn digest(&self, table: &Table) -> Result<Digest> {
        let sql = format!("SELECT {} FROM {}", names(table).join(", "), table.name);
        let rows = self.client.query_raw(&sql, std::iter::empty::<Value>()).await;
        let mut rows = pin!(rows.during(VERIFY)?);
        let mut digest = Digest::default();
        while let Some(row) = rows.try_next().await.during(VERIFY)? {
            let row = Row {
                row: &row,
                operation: VERIFY,
            };
            let cells = table.columns.iter().map(|column| {
                Ok(match column.kind {
                    Kind::Whole => Cell::Whole(row.any_whole(column.name)?),
                    Kind::Text => Cell::Text(row.any_text(column.name)?),
                    Kind::Flag => Cell::Flag(row.flag(column.name)?),
                })
            });
            digest.add(&cells.collect::<agentwrit_store::Result<Vec<_>>>()?);
            self.tell(Stage::Checking(0))?;
        }
        Ok(digest)
    }

    /// Along the whole trail, a segment after the other.
    async fn walk(&self, head: &ChainHead) -> Result<()> {
        let mut link = Link::new(self.client);
        let known = facts::read(&mut link, MetaKey::AuditCheckpoint).await?;
        let known = known.as_deref().map(checkpoint_from_text).transpose()?;
        let walker = if head.kept.first > 1 {
            ChainWalker::from_checkpoint()
        } else {
            ChainWalker::from_start()
        };
        let mut walker = known.into_iter().fold(walker, ChainWalker::expecting);
        let sql = "SELECT first FROM audit_segments UNION ALL SELECT growing_first FROM chain_head ORDER BY first";
        let segments = link.all(VERIFY, sql, values![], |row| row.whole("first")).await?;
        let mut read = 0;
        for segment in segments {
            let sql = "SELECT json FROM audit_events WHERE segment = $1 ORDER BY seq";
            let rows = self.client.query_raw(sql, [Value::from(segment)]).await;
            let mut rows = pin!(rows.during(VERIFY)?);
            while let Some(row) = rows.try_next().await.during(VERIFY)? {
                let json = Row {
                    row: &row,
                    operation: VERIFY,
                }
                .text("json")?;
                walker.feed_json(&json, self.keys).map_err(StoreError::BrokenChain)?;
                read += 1;
                if read % TELL_EVERY == 0 {
                    self.tell(Stage::Checking(read))?;
                }
            }
        }
        let done = walker.finish().map_err(StoreError::BrokenChain)?;
        if done.sequence != head.sequence || done.head != head.hash {
            return Err(ArrivalError::Different("the audit trail".to_owned()));
        }
        Ok(())
    }
}
