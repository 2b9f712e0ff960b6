//! All that a store holds, in rows of no database: how the content of one store gets into another, unchanged.
//!
//! The trail goes as [`Piece::Events`] and [`Piece::Sealed`], everything else as rows of [`TABLES`]. A column that a
//! migration adds to a store is added here, or its test `all_columns_are_moved` fails.

use std::ops::ControlFlow;
use std::sync::Arc;

use agentwrit_protocol::{UnixMillis, UnixNanos};
use sha2::{Digest as _, Sha256};

use super::Segment;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, or none.
    Whole,
    /// A text, or none.
    Text,
    /// Yes or no.
    Flag,
}

/// A column.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// A table that goes as it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, in the order of a row's cells.
    pub columns: &'static [Column],
    /// The column that the store numbers itself, if there is one.
    pub numbered: Option<&'static str>,
}

macro_rules! table {
    ($name:literal, $numbered:expr, $($column:ident $kind:ident),+ $(,)?) => {
        Table {
            name: $name,
            columns: &[$(Column { name: stringify!($column), kind: Kind::$kind }),+],
            numbered: $numbered,
        }
    };
}

/// Every table but those of the trail.
#[rustfmt::skip]
pub static TABLES: [Table; 16] = [
    table!("meta", None, key Text, value Text),
    table!("signing_keys", Some("sequence"),
        sequence Whole, kid Text, x Text, published_at Whole, signs_from Whole, retires_at Whole, retired_at Whole, leaked Flag),
    table!("apps", Some("sequence"),
        sequence Whole, app_id Text, name Text, client_id Text, secret_hash Text, scopes Text, token_ttl Whole,
        created_at Whole, updated_at Whole, deregistered_at Whole),
    table!("policies", None,
        kind Text, namespace Text, name Text, uid Text, generation Whole, lease_epoch Whole, sequence Whole, state Text,
        reason Text, digest Text, accepted Text, app Text, app_id Text, issued Whole, room_until Whole,
        client_id Text),
    table!("launch_tokens", None,
        hash Text, agent_name Text, allowed_scope Text, max_ttl Whole, single_use Flag, expires_at Whole,
        consumed_at Whole, created_by Text, correlation_id Text, policy_uid Text, pod_uid Text, attested Text),
    table!("sessions", None,
        sid Text, agent_id Text, orch_id Text, task_id Text, scope Text, jti Text, iat Whole, exp Whole, last_exp Whole,
        kept_until Whole, prev_jti Text, prev_until Whole, prev_exp Whole, prev_over Whole, renew_key Text,
        created_at Whole, ended_at Whole, end_reason Text, barred Flag, correlation_id Text, policy_uid Text,
        pod_uid Text, attested Text, root Text, nodes Text, parent Text, ceiling Whole, holder_pod Text, status Whole,
        status_set_at Whole),
    table!("revocations", None, level Text, target Text, until Whole),
    table!("nonces", None, until Whole, nonce Text),
    table!("buried_policies", None, uid Text, until Whole),
    table!("buried_pods", None, pod_uid Text, until Whole),
    table!("pods", Some("id"), id Whole, uid Text, namespace Text, name Text, node Text, service_account Text, policy Text, orch_id Text),
    table!("pod_sessions", None, stem Text, pod Whole),
    table!("quarantined_pods", None, pod_uid Text, since Whole, by_whom Text, until Whole),
    table!("pod_launches", None, pod_uid Text, full_at Whole),
    table!("pod_supersessions", Some("id"), id Whole, pod_uid Text, at Whole),
    table!("denials", Some("cursor"),
        cursor Whole, at Text, namespace Text, pod Text, pod_uid Text, policy Text, error_kind Text, message Text),
];

/// A value in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Of [`Kind::Whole`].
    Whole(Option<i64>),
    /// Of [`Kind::Text`].
    Text(Option<String>),
    /// Of [`Kind::Flag`].
    Flag(bool),
}

impl Cell {
    /// What it takes in memory, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + if let Self::Text(Some(text)) = self {
                text.len()
            } else {
                0
            }
    }
}

/// An event of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its number.
    pub sequence: i64,
    /// When it was.
    pub at: UnixNanos,
    /// The event as it is served.
    pub json: String,
}

/// A sealed segment of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSegment {
    /// The segment; what its events take is another figure in each kind of store.
    pub segment: Segment,
    /// When it was exported.
    pub exported_at: Option<UnixMillis>,
}

/// A part of what a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Rows of a table.
    Rows(&'static Table, Vec<Vec<Cell>>),
    /// The next events, all of one segment.
    Events(Vec<EventRow>),
    /// The segment that the events up to here end.
    Sealed(Box<SealedSegment>),
    /// That was all.
    End,
}

/// What is known of a store before anything of it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its epoch.
    pub epoch: String,
    /// Number of the last event.
    pub sequence: i64,
    /// Its hash.
    pub hash: String,
    /// Number of the last checkpoint; 0 before the first.
    pub checkpoint: i64,
    /// Number of the last event that the last signed statement covers.
    pub signed: i64,
    /// When the first event after the last checkpoint was.
    pub unsigned_since: Option<UnixNanos>,
    /// Number of the first event that is kept.
    pub first_kept: i64,
    /// The last cursor that any denial had.
    pub last_denial: i64,
}

impl Origin {
    /// Events that are kept.
    pub fn events(&self) -> i64 {
        self.sequence.saturating_add(1).saturating_sub(self.first_kept)
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// So many events have got there.
    Moving(i64),
    /// So many events were read there and verified.
    Checking(i64),
}

/// Hears how far it is, a few times in each second, and says whether it goes on.
pub type Watcher = Arc<dyn Fn(Stage) -> ControlFlow<()> + Send + Sync>;

/// Rows of a table, in whatever order: two tables have the same digest when they hold the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    rows: u64,
    sums: [u64; 4],
}

impl Digest {
    /// Adds a row.
    pub fn add(&mut self, row: &[Cell]) {
        let mut hash = Sha256::new();
        for cell in row {
            match cell {
                Cell::Whole(None) | Cell::Text(None) => hash.update([0]),
                Cell::Whole(Some(number)) => {
                    hash.update([1]);
                    hash.update(number.to_be_bytes());
                }
                Cell::Text(Some(text)) => {
                    hash.update([2]);
                    hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
                    hash.update(text);
                }
                Cell::Flag(flag) => hash.update([3, u8::from(*flag)]),
            }
        }
        let hash: [u8; 32] = hash.finalize().into();
        for (sum, part) in self.sums.iter_mut().zip(hash.chunks_exact(8)) {
            let part = part.try_into().map(u64::from_be_bytes).unwrap_or_default();
            *sum = sum.wrapping_add(part);
        }
        self.rows += 1;
    }

    /// How many there are.
    pub const fn rows(&self) -> u64 {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell {
        Cell::Text(Some(text.to_owned()))
    }

    #[test]
    fn a_digest_is_of_the_rows_and_not_of_their_order() {
        let rows = [
            vec![text("a"), text("bc"), Cell::Whole(Some(1))],
            vec![text("ab"), text("c"), Cell::Whole(Some(1))],
            vec![text("ab"), text("c"), Cell::Whole(None)],
            vec![text("ab"), Cell::Text(None), Cell::Flag(true)],
            vec![text("ab"), Cell::Text(None), Cell::Flag(false)],
        ];
        let of = |rows: &[&[Cell]]| {
            let mut digest = Digest::default();
            for row in rows {
                digest.add(row);
            }
            digest
        };
        let [a, b, c, ..] = &rows;
        assert_eq!(of(&[a, b, c]), of(&[c, a, b]));
        assert_ne!(of(&[a, b]), of(&[a, b, b]));
        let each: Vec<_> = rows.iter().map(|row| of(&[row])).collect();
        for (place, digest) in each.iter().enumerate() {
            assert_eq!(each.iter().position(|other| other == digest), Some(place));
            assert_eq!(digest.rows(), 1);
        }
    }
}
