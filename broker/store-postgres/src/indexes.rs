//! Which status indexes are held: those of the rows that are kept beyond `swept`. Drawn and given back under the lock of the
//! chain's head, so that no two batches of any replicas draw at once.

use std::collections::BTreeSet;

use agentwrit_protocol::status_list::{Bounds, StatusIndex};
use agentwrit_protocol::{Entropy, UnixMillis, UnixSeconds};
use agentwrit_store::session::freed_until;
use agentwrit_store::{Result, StoreError};

use crate::link::Link;
use crate::row::Row;
use crate::shared::Shared;
use crate::value::values;

/// A draw is the first part of an insertion, and called like it: one name for the metric of both stores.
const DRAW: &str = "insert_session";
const FREE: &str = "free_status_indexes";
/// Places that one question asks for, at least and at most.
const ASKED: (i64, i64) = (4, 512);
/// Free places that a question should find beyond those that are needed when hardly any place that isn't known to be held
/// is free; less when more are. None at all is found once in 1,000 times then.
const SPARE: i64 = 8;
/// Questions about random places, before whole lists are read.
const QUESTIONS: usize = 3;

/// What the row of the chain's head says of the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How many are open.
    lists: i64,
    /// Rows beyond `swept` that have an index.
    held: i64,
    /// Rows that are kept until this second or less hold none any more.
    swept: UnixSeconds,
}

impl Counts {
    /// Rows that are kept until this second or less hold none any more.
    pub(crate) const fn swept(&self) -> UnixSeconds {
        self.swept
    }

    pub(crate) fn from_row(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            lists: row.whole("status_lists")?,
            held: row.whole("status_held")?,
            swept: row.seconds("status_swept")?,
        })
    }
}

/// The lists, in a transaction that has the lock of the chain's head.
pub(crate) struct Indexes {
    read: Counts,
    now: Counts,
    bounds: Bounds,
    /// Free places that were asked for, in the order in which they are drawn.
    ready: Vec<StatusIndex>,
    /// Draws that are expected from now on.
    expected: i64,
    drawn: Vec<StatusIndex>,
}

impl Indexes {
    /// With so many draws expected.
    pub(crate) fn new(read: Counts, bounds: Bounds, expected: usize) -> Self {
        Self {
            read,
            now: read,
            bounds,
            ready: Vec::new(),
            expected: i64::try_from(expected).unwrap_or(i64::MAX),
            drawn: Vec::new(),
        }
    }

    fn entries(&self) -> i64 {
        self.bounds.entries.into()
    }

    fn free_count(&self) -> i64 {
        self.now
            .lists
            .saturating_mul(self.entries())
            .saturating_sub(self.now.held)
    }

    fn lacks_free(&self) -> bool {
        self.free_count() < i64::from(self.bounds.at_least_free.max(1))
    }

    /// Whether nothing can be drawn.
    pub(crate) fn is_full(&self) -> bool {
        self.lacks_free() && self.now.lists >= self.bounds.lists.into()
    }

    /// The transaction was committed.
    pub(crate) fn committed(&self, shared: &Shared) {
        shared.held.learn(self.drawn.iter().copied());
        if self.has_changed() {
            self.tell(shared);
        }
    }

    /// Tells how many there are.
    pub(crate) fn tell(&self, shared: &Shared) {
        let small = |number: i64| u32::try_from(number).unwrap_or_default();
        let (lists, free) = (small(self.now.lists), small(self.free_count()));
        shared.observer.status_indexes(lists, free);
    }

    pub(crate) fn has_changed(&self) -> bool {
        self.read != self.now
    }

    /// Writes what this transaction has changed.
    pub(crate) async fn save(&self, link: &mut Link<'_>) -> Result<()> {
        let sql = "UPDATE chain_head SET status_lists = $1, status_held = $2, status_swept = $3 WHERE id = 1";
        let Counts { lists, held, swept } = self.now;
        link.send("save_status_lists", sql, values![lists, held, swept.get()])
            .await
    }

    /// Draws one for a row that is inserted next, evenly from all that are free, but for those that were given back and
    /// that this replica doesn't know of yet.
    pub(crate) async fn draw(&mut self, link: &mut Link<'_>, shared: &Shared) -> Result<StatusIndex> {
        if self.is_full() {
            return Err(StoreError::StatusListsFull);
        }
        while self.lacks_free() && self.now.lists < self.bounds.lists.into() {
            self.now.lists += 1;
            self.ready.clear();
        }
        for _ in 0..QUESTIONS {
            if self.ready.is_empty() {
                self.ready = self.ask(link, shared).await?;
            }
        }
        let index = match self.ready.pop() {
            Some(index) => index,
            None => self.look_through(link, shared.entropy.as_ref()).await?,
        };
        self.now.held += 1;
        self.drawn.push(index);
        self.expected = self.expected.saturating_sub(1);
        Ok(index)
    }

    /// The last one that was drawn is not needed.
    pub(crate) fn give_back_last(&mut self) {
        self.now.held -= 1;
        self.drawn.pop();
    }

    /// How many of so many places that aren't known to be held are asked for, so that enough of them are free.
    fn asked(&self, others: i64) -> usize {
        let (least, most) = ASKED;
        let free = self.free_count().clamp(1, others.max(1));
        let part_of = |of: i64, part: i64| of.saturating_mul(part).checked_div(others).unwrap_or(of);
        let spare = part_of(SPARE, others - free + 1);
        let wanted = self.expected.max(1).saturating_add(spare);
        let asked = wanted.saturating_mul(others).checked_div(free).unwrap_or(most);
        usize::try_from(asked.clamp(least, most)).unwrap_or_default()
    }

    /// Those of some random places that are free.
    async fn ask(&self, link: &mut Link<'_>, shared: &Shared) -> Result<Vec<StatusIndex>> {
        let lists = u32::try_from(self.now.lists).unwrap_or_default();
        let others = shared.held.others(lists, self.now.swept);
        let mut places = shared
            .held
            .draw(self.asked(others.into()), lists, shared.entropy.as_ref())?;
        // Joined so, each place is looked up by the index, however large the table is.
        let sql = "SELECT place FROM unnest($1::bigint[]) AS place LEFT JOIN LATERAL (SELECT true AS held FROM sessions \
                   WHERE status = place AND kept_until > $2 LIMIT 1) AS holder ON true WHERE held IS NULL";
        let asked: Vec<i64> = places.iter().map(|index| index.number()).collect();
        let free = link.all(DRAW, sql, values![asked, self.now.swept.get()], |row| {
            row.whole("place")
        });
        let free: BTreeSet<i64> = free.await?.into_iter().collect();
        let held = places.extract_if(.., |index| !free.contains(&index.number()));
        shared.held.learn(held);
        Ok(places)
    }

    /// One that is free, when hardly any is: of the first list that has one, in a random order. No place of that list is
    /// preferred, but lists with few free ones are.
    async fn look_through(&self, link: &mut Link<'_>, entropy: &dyn Entropy) -> Result<StatusIndex> {
        let begin = below(self.now.lists, entropy)?;
        for number in 0..self.now.lists {
            let list = u32::try_from((begin + number) % self.now.lists.max(1)).unwrap_or_default();
            let first = StatusIndex::new(list, 0).map(StatusIndex::number).unwrap_or_default();
            let sql = "SELECT status FROM sessions WHERE status >= $1 AND status < $2 AND kept_until > $3";
            let values = values![first, first.saturating_add(self.entries()), self.now.swept.get()];
            let held = link.all(DRAW, sql, values, |row| row.whole("status")).await?;
            let held: BTreeSet<i64> = held.into_iter().collect();
            let free: Vec<StatusIndex> = (0..self.bounds.entries)
                .filter_map(|place| StatusIndex::new(list, place))
                .filter(|index| !held.contains(&index.number()))
                .collect();
            if free.is_empty() {
                continue;
            }
            let rank = below(i64::try_from(free.len()).unwrap_or(i64::MAX), entropy)?;
            let drawn = usize::try_from(rank).ok().and_then(|rank| free.get(rank).copied());
            return drawn.ok_or(StoreError::StatusListsFull);
        }
        Err(StoreError::StatusListsFull)
    }

    /// All rows that are kept until less than this second have given their indexes back.
    pub(crate) const fn swept_until(&self) -> UnixSeconds {
        self.now.swept
    }

    /// Takes the indexes back of those rows that are kept the same number of hours; how many rows there were.
    pub(crate) async fn sweep(&mut self, link: &mut Link<'_>, passed: UnixMillis) -> Result<u64> {
        let until = freed_until(passed);
        if self.now.swept >= until {
            return Ok(0);
        }
        let sql = "SELECT kept_until, count(*) AS rows, count(status) AS held FROM sessions WHERE kept_until = (SELECT \
                   min(kept_until) FROM sessions WHERE kept_until > $1 AND kept_until <= $2) GROUP BY kept_until";
        let values = values![self.now.swept.get(), until.get()];
        let read = |row: &Row<'_>| Ok((row.seconds("kept_until")?, row.whole("rows")?, row.whole("held")?));
        let (swept, rows, held) = link.first(FREE, sql, values, read).await?.unwrap_or((until, 0, 0));
        self.ready.clear();
        self.now.swept = swept;
        self.now.held -= held;
        Ok(u64::try_from(rows).unwrap_or_default())
    }

    /// Counts anew, by a clock that was set back.
    pub(crate) async fn count(&mut self, link: &mut Link<'_>, passed: UnixMillis) -> Result<()> {
        self.now.swept = freed_until(passed);
        let sql = "SELECT count(status) AS held FROM sessions WHERE kept_until > $1";
        let held = link.first(FREE, sql, values![self.now.swept.get()], |row| row.whole("held"));
        self.now.held = held.await?.unwrap_or_default();
        Ok(())
    }
}

/// A random number below another. 128 bits for at most 26: the remainder prefers none by more than 2^-102 (FIPS 186-5,
/// A.2.1, asks for 2^-64).
fn below(bound: i64, entropy: &dyn Entropy) -> Result<i64> {
    let mut random = [0_u8; 16];
    entropy.fill(&mut random)?;
    let bound = u128::try_from(bound).unwrap_or_default();
    let rank = u128::from_be_bytes(random).checked_rem(bound).unwrap_or_default();
    Ok(i64::try_from(rank).unwrap_or_default())
}
