//! Which status indexes are held. In memory, because an index of the database on a random number would cost each
//! registration a page; the rows say it again at every opening.

use std::sync::Arc;

use agentwrit_protocol::status_list::{IndexPool, StatusIndex};
use agentwrit_protocol::{Entropy, UnixMillis, UnixSeconds};
use agentwrit_store::session::freed_until;
use agentwrit_store::status::{LISTS_FREE, stored_index};
use agentwrit_store::{Result, StoreError};
use rusqlite::{Connection, Row};

use super::error::Operation;
use super::shared::Shared;
use super::statements::{Statements, scalar};

const LOAD: &str = "load_status_indexes";
const FREE: &str = "free_status_indexes";
/// Rows that one step looks at, for which all other commits wait.
const FREED_AT_ONCE: usize = 1_000;

/// The index in a row; `None` in one of an earlier schema.
pub(crate) fn status_index(row: &Row<'_>, column: &str, operation: &'static str) -> Result<Option<StatusIndex>> {
    stored_index(row.get(column).during(operation)?)
}

/// A row in the order of `kept_until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    kept_until: UnixSeconds,
    id: i64,
}

impl Place {
    /// After every row that is kept until this second.
    const fn after(kept_until: UnixSeconds) -> Self {
        Self {
            kept_until,
            id: i64::MAX,
        }
    }
}

/// The indexes that the rows hold, and what the open transaction has changed of that.
pub(crate) struct Indexes {
    pool: IndexPool,
    entropy: Arc<dyn Entropy>,
    /// Rows up to here have given theirs back. Rows that are opened or renewed are always beyond: they are dated by a wall
    /// clock that is at most five minutes behind the mark.
    swept: Place,
    /// Whether it was told that the lists are full, and they are still.
    told_full: bool,
    drawn: Vec<StatusIndex>,
    freed: Vec<StatusIndex>,
    swept_next: Option<Place>,
}

impl Indexes {
    /// As the rows say.
    pub(super) fn load(connection: &Connection, shared: &Shared) -> Result<Self> {
        let until = freed_until(shared.judging.observe().passed());
        let mut pool = IndexPool::new(shared.status_lists);
        connection.each(
            LOAD,
            "SELECT status FROM sessions WHERE kept_until > ? AND status IS NOT NULL",
            [until.get()],
            |row| {
                if let Some(index) = status_index(row, "status", LOAD)? {
                    pool.hold(index);
                }
                Ok(())
            },
        )?;
        pool.open_enough();
        let indexes = Self {
            pool,
            entropy: Arc::clone(&shared.entropy),
            swept: Place::after(until),
            told_full: false,
            drawn: Vec::new(),
            freed: Vec::new(),
            swept_next: None,
        };
        indexes.tell(shared);
        Ok(indexes)
    }

    fn tell(&self, shared: &Shared) {
        shared
            .observer
            .status_indexes(self.pool.lists(), self.pool.free_count());
    }

    /// Whether nothing can be drawn.
    pub(crate) fn is_full(&self) -> bool {
        self.pool.is_full()
    }

    /// Draws one for a row of the open transaction.
    pub(crate) fn draw(&mut self) -> Result<StatusIndex> {
        let drawn = self.pool.draw(self.entropy.as_ref())?;
        let index = drawn.ok_or(StoreError::StatusListsFull)?;
        self.drawn.push(index);
        Ok(index)
    }

    /// The last one that was drawn is not needed.
    pub(crate) fn give_back_last(&mut self) {
        if let Some(index) = self.drawn.pop() {
            self.pool.free(index);
        }
    }

    /// All rows that are kept until less than this second have given their indexes back.
    pub(crate) fn swept_until(&self) -> UnixSeconds {
        self.swept_next.unwrap_or(self.swept).kept_until
    }

    /// Takes the indexes of some rows back, hour by hour of `kept_until`; how many rows were looked at.
    pub(crate) fn sweep(&mut self, connection: &Connection, passed: UnixMillis) -> Result<u64> {
        let until = freed_until(passed);
        let mut place = self.swept_next.unwrap_or(self.swept);
        let mut rows = Vec::new();
        while rows.is_empty() && place.kept_until <= until && place != Place::after(until) {
            rows = rows_after(connection, place)?;
            place = match rows.last() {
                Some((id, _)) if rows.len() == FREED_AT_ONCE => Place { id: *id, ..place },
                _ => next_step(connection, place.kept_until, until)?,
            };
        }
        self.swept_next = Some(place);
        let looked_at = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        self.freed.extend(rows.into_iter().filter_map(|(_, index)| index));
        Ok(looked_at)
    }

    /// The open transaction was committed.
    pub(super) fn committed(&mut self, shared: &Shared) {
        if let Some(place) = self.swept_next.take() {
            self.swept = place;
        }
        let changed = !self.drawn.is_empty() || !self.freed.is_empty();
        self.drawn.clear();
        for index in self.freed.drain(..) {
            self.pool.free(index);
        }
        if changed {
            self.tell(shared);
        }
        if self.told_full && !self.is_full() {
            self.told_full = false;
            tracing::info!(target: "STORE", component = "StatusIndex", "{LISTS_FREE}");
        }
    }

    /// The open transaction was rolled back.
    pub(super) fn rolled_back(&mut self) {
        self.swept_next = None;
        self.freed.clear();
        for index in self.drawn.drain(..) {
            self.pool.free(index);
        }
    }

    /// Takes note that something was refused because the lists are full; whether that is news.
    pub(super) fn is_first_refusal(&mut self) -> bool {
        !std::mem::replace(&mut self.told_full, true)
    }
}

/// Rows that are kept as long as the one at this place and come after it, with their indexes.
fn rows_after(connection: &Connection, place: Place) -> Result<Vec<(i64, Option<StatusIndex>)>> {
    let sql = "SELECT id, status FROM sessions WHERE kept_until = ? AND id > ? ORDER BY id LIMIT ?";
    let values = (
        place.kept_until.get(),
        place.id,
        i64::try_from(FREED_AT_ONCE).unwrap_or(i64::MAX),
    );
    connection.all(FREE, sql, values, |row| {
        Ok((row.get("id").during(FREE)?, status_index(row, "status", FREE)?))
    })
}

/// Before the rows that are kept the next longer, up to `until`.
fn next_step(connection: &Connection, kept_until: UnixSeconds, until: UnixSeconds) -> Result<Place> {
    let sql = "SELECT MIN(kept_until) FROM sessions WHERE kept_until > ? AND kept_until <= ?";
    let next: Option<Option<i64>> = connection.first(FREE, sql, [kept_until.get(), until.get()], scalar(FREE))?;
    Ok(match next.flatten() {
        Some(next) => Place {
            kept_until: UnixSeconds::new(next),
            id: i64::MIN,
        },
        None => Place::after(until),
    })
}

#[cfg(test)]
mod tests {
    use agentwrit_protocol::status_list::Bounds;
    use agentwrit_store::StoreLocation;
    use agentwrit_store::testing::surroundings;

    use super::*;
    use crate::open::{Held, Opened, open};
    use crate::options::OpenOptions;

    /// A store in memory with two indexes.
    fn opened() -> (Opened, Shared) {
        let (mut around, ..) = surroundings();
        around.status_lists = Bounds {
            entries: 2,
            at_least_free: 1,
            lists: 1,
        };
        let shared = Shared::new(&OpenOptions::in_memory(), around);
        (
            open(&StoreLocation::Memory, &shared, &mut Held::default()).unwrap(),
            shared,
        )
    }

    #[test]
    fn full_lists_are_told_once_until_one_is_free_again() {
        let (mut opened, shared) = opened();
        let indexes = &mut opened.indexes;
        let drawn = [indexes.draw().unwrap(), indexes.draw().unwrap()];
        indexes.committed(&shared);
        for index in drawn {
            assert!(matches!(indexes.draw(), Err(StoreError::StatusListsFull)));
            assert_eq!([indexes.is_first_refusal(), indexes.is_first_refusal()], [true, false]);
            indexes.committed(&shared);
            assert!(!indexes.is_first_refusal(), "still full");
            indexes.freed.push(index);
            assert!(indexes.is_full(), "not before the commit");
            indexes.committed(&shared);
            assert_eq!(indexes.draw().unwrap(), index);
            indexes.committed(&shared);
        }
    }

    #[test]
    fn a_rollback_undoes_what_was_drawn_and_what_was_freed() {
        let (mut opened, shared) = opened();
        let Opened {
            connection, indexes, ..
        } = &mut opened;
        let kept = indexes.draw().unwrap();
        indexes.committed(&shared);
        let swept = indexes.swept_until();
        indexes.draw().unwrap();
        indexes.freed.push(kept);
        let later = UnixMillis::new(swept.start().get() + 3_600_000);
        indexes.sweep(connection, later).unwrap();
        assert!(indexes.swept_until() > swept);
        indexes.rolled_back();
        assert_eq!(indexes.swept_until(), swept);
        let other = indexes.draw().unwrap();
        assert!(other != kept && indexes.is_full());
        indexes.give_back_last();
        assert_eq!(indexes.draw().unwrap(), other);
        indexes.committed(&shared);
        assert!(indexes.is_full());
    }
}
