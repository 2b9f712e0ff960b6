//! The content of another store, into an empty database: `agentwrit-broker migrate`.
//!
//! All of it is one transaction, the tables apart: what ends in the middle leaves nothing. It holds the one row of
//! `chain_head` from its beginning, so that a broker that starts meanwhile waits, and opens what was moved. Before the
//! commit everything is read back: rows by their digests, the trail by the walk along its chain and by what a broker does
//! when it opens the store.

mod check;
mod error;
mod target;
mod trail;

use std::ops::ControlFlow;
use std::pin::pin;

use agentwrit_protocol::audit::CheckpointKeys;
use agentwrit_protocol::status_list::StatusIndex;
use agentwrit_store::content::{Cell, Digest, Kind, Origin, Piece, Stage, TABLES, Table, Watcher};
use deadpool_postgres::ClientWrapper;
use tokio::sync::mpsc::Receiver;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

pub use self::error::ArrivalError;
use self::error::Result;
use self::trail::Trail;
use crate::audit::head;
use crate::connector::connect;
use crate::link::Link;
use crate::open::check as check_server;
use crate::schema::migrate;
use crate::settings::Settings;
use crate::value::{Value, values};

const MOVE: &str = "move";
/// Nothing here takes a moment, and what waits for a lock may wait for one who looks into the tables.
const LIMITS: &str = "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = '10min'; \
     SET LOCAL lock_timeout = '60s'";

/// What has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrived {
    /// All of it, now: rows of each table, and segments of the trail, without the one that grows.
    Now {
        /// Rows by table.
        rows: Vec<(&'static str, u64)>,
        /// Sealed segments.
        segments: i64,
    },
    /// It had been moved here before, and nobody had noted it.
    Before,
}

/// Takes what another store sends into the database.
///
/// # Errors
/// When it can't be had there; the database is then as empty as before, if the COMMIT isn't [`ArrivalError::Unknown`].
pub async fn arrive(
    settings: &Settings,
    origin: &Origin,
    keys: &(dyn CheckpointKeys + Sync),
    pieces: &mut Receiver<Piece>,
    watcher: &Watcher,
) -> Result<Arrived> {
    let client = connect(settings).await?;
    check_server(&client).await?;
    migrate(&client).await?;
    let mut arrival = Arrival {
        client: &client,
        origin,
        keys,
        watcher,
        digests: TABLES.each_ref().map(|_| Digest::default()),
    };
    let arrived = arrival.transaction(pieces).await;
    if matches!(&arrived, Err(error) if !matches!(error, ArrivalError::Unknown(_))) {
        // At once, for who runs it again. Its own failure would hide the first one.
        drop(client.batch_execute("ROLLBACK").await);
    }
    arrived
}

/// The one transaction.
struct Arrival<'a> {
    client: &'a ClientWrapper,
    origin: &'a Origin,
    keys: &'a (dyn CheckpointKeys + Sync),
    watcher: &'a Watcher,
    /// Of what was sent, in the order of [`TABLES`].
    digests: [Digest; TABLES.len()],
}

impl Arrival<'_> {
    async fn transaction(&mut self, pieces: &mut Receiver<Piece>) -> Result<Arrived> {
        let client = self.client;
        self.run(LIMITS).await?;
        target::owned(client).await?;
        let mut link = Link::new(client);
        // Whoever else moves something here waits for it, and so does a broker that starts now.
        head::make(&mut link).await?;
        link.settle().await?;
        let holds = target::holds(client).await?;
        if !holds.is_empty() {
            return if target::has_all_of(client, self.origin).await? {
                Ok(Arrived::Before)
            } else {
                Err(ArrivalError::NotEmpty(holds))
            };
        }
        let mut trail = Trail::begin(client, self.origin).await?;
        let mut is_whole = false;
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Rows(table, rows) => self.rows(table, rows).await?,
                Piece::Events(events) => {
                    trail.append(client, events).await?;
                    self.tell(Stage::Moving(trail.moved()))?;
                }
                Piece::Sealed(sealed) => trail.seal(client, &sealed).await?,
                Piece::End => {
                    is_whole = true;
                    break;
                }
            }
            self.tell(Stage::Moving(trail.moved()))?;
        }
        if !is_whole {
            return Err(ArrivalError::Incomplete);
        }
        let head = trail.end(self.origin)?;
        head::save(&mut link, &head).await?;
        link.settle().await?;
        self.run(crate::rows::session::OPEN_ROOTS).await?;
        self.count_status_indexes().await?;
        self.number_on().await?;
        let tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        self.run(&format!("ANALYZE audit_events, audit_segments, {}", tables.join(", ")))
            .await?;
        self.verify(&head).await?;
        match client.batch_execute("COMMIT").await {
            Ok(()) => Ok(Arrived::Now {
                rows: TABLES
                    .iter()
                    .zip(self.digests)
                    .map(|(table, digest)| (table.name, digest.rows()))
                    .collect(),
                segments: head.kept.segments,
            }),
            Err(error) => Err(ArrivalError::Unknown(crate::error::failed("commit", &error))),
        }
    }

    fn tell(&self, stage: Stage) -> Result<()> {
        match (self.watcher)(stage) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ArrivalError::Stopped),
        }
    }

    async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(ArrivalError::of(MOVE))
    }

    /// Writes rows of a table.
    async fn rows(&mut self, table: &'static Table, rows: Vec<Vec<Cell>>) -> Result<()> {
        for (known, digest) in TABLES.iter().zip(&mut self.digests) {
            if known == table {
                for row in &rows {
                    digest.add(row);
                }
            }
        }
        let kinds: Vec<Type> = table.columns.iter().map(|column| kind(column.kind)).collect();
        let rows = rows.into_iter().map(|row| row.into_iter().map(Value::from).collect());
        copy(self.client, &copy_sql(table.name, &names(table)), &kinds, rows).await
    }

    /// Counts the status indexes that the rows hold. Those that are free again by now are counted until the first sweep.
    async fn count_status_indexes(&self) -> Result<()> {
        let mut link = Link::new(self.client);
        let sql = "SELECT count(status) AS held, coalesce(max(status), 0) AS last FROM sessions";
        let found = link.first(MOVE, sql, values![], |row| Ok((row.whole("held")?, row.whole("last")?)));
        let (held, last) = found.await?.unwrap_or_default();
        let lists = StatusIndex::from_number(last).map_or(1, |index| i64::from(index.list()) + 1);
        let sql = "UPDATE chain_head SET status_held = $1, status_lists = $2 WHERE id = 1";
        link.change(MOVE, sql, values![held, lists]).await?;
        Ok(())
    }

    /// Has what the store numbers itself go on after the numbers that are there.
    async fn number_on(&self) -> Result<()> {
        let mut link = Link::new(self.client);
        for table in &TABLES {
            let (name, Some(column)) = (table.name, table.numbered) else {
                continue;
            };
            let sql = format!("SELECT coalesce(max({column}), 0) AS last FROM {name}");
            let last = link.all_once(MOVE, &sql, values![], |row| row.whole("last")).await?;
            let mut last = last.into_iter().next().unwrap_or_default();
            if name == "denials" {
                last = last.max(self.origin.last_denial);
            }
            // Unlike setval, it is part of the transaction.
            let next = last.saturating_add(1);
            self.run(&format!("ALTER TABLE {name} ALTER COLUMN {column} RESTART WITH {next}"))
                .await?;
        }
        Ok(())
    }
}

fn kind(kind: Kind) -> Type {
    match kind {
        Kind::Whole => Type::INT8,
        Kind::Text => Type::TEXT,
        Kind::Flag => Type::BOOL,
    }
}

impl From<Cell> for Value {
    fn from(cell: Cell) -> Self {
        match cell {
            Cell::Whole(number) => number.into(),
            Cell::Text(text) => text.into(),
            Cell::Flag(flag) => flag.into(),
        }
    }
}

/// The names of a table's columns.
fn names(table: &Table) -> Vec<&'static str> {
    table.columns.iter().map(|column| column.name).collect()
}

fn copy_sql(table: &str, columns: &[&str]) -> String {
    format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", columns.join(", "))
}

/// Writes rows by COPY, which takes numbers for columns that the store numbers itself.
async fn copy(
    client: &ClientWrapper,
    sql: &str,
    kinds: &[Type],
    rows: impl Iterator<Item = Vec<Value>> + Send,
) -> Result<()> {
    let failed = ArrivalError::of(MOVE);
    let sink = client.copy_in(sql).await.map_err(&failed)?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, kinds));
    for row in rows {
        writer.as_mut().write_raw(&row).await.map_err(&failed)?;
    }
    writer.finish().await.map_err(&failed)?;
    Ok(())
}
