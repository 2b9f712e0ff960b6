//! What is known of the matches of the filters that were asked for last: how many there are, and where the first are.
//!
//! The trail grows at its end and goes at its beginning: a repeated query reads only what was added since, and leaves out
//! what was dropped.

use std::sync::Arc;

use agentwrit_protocol::UnixNanos;
use agentwrit_store::EventFilter;
use agentwrit_store::FilterColumn;
use parking_lot::{Mutex, MutexGuard};

/// Numbers of matches that are kept of one filter: 16 KiB.
const KNOWN: usize = 2000;
/// Filters that are kept.
const FILTERS: usize = 64;
/// Bytes of values in a filter that is kept.
const LONGEST_VALUES: usize = 1024;

/// The matches of a filter up to an event.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// How many there are.
    pub total: i64,
    /// Number of the last event that was looked at.
    pub until: i64,
    /// Numbers of the first of them.
    pub first: Vec<i64>,
    /// Number of the last event that was dropped when they were counted.
    gone: i64,
}

impl Known {
    /// Nothing is known yet of a trail that begins after this event.
    fn nothing(gone: i64) -> Arc<Self> {
        Arc::new(Self {
            until: gone,
            gone,
            ..Self::default()
        })
    }

    /// Whether the number of every match is known.
    pub fn complete(&self) -> bool {
        i64::try_from(self.first.len()).is_ok_and(|known| known == self.total)
    }

    /// How many more numbers may be read on after the last event that was looked at; none when that would leave a gap.
    pub fn room(&self) -> i64 {
        let room = if self.complete() {
            KNOWN.saturating_sub(self.first.len())
        } else {
            0
        };
        i64::try_from(room).unwrap_or(i64::MAX)
    }

    /// Takes the numbers in that were read on, as many as there was room for, in a trail up to this event.
    pub fn take(&mut self, found: Vec<i64>, head: i64) {
        let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
        let is_full = count >= self.room();
        self.until = found.last().copied().filter(|_| is_full).unwrap_or(head);
        self.total = self.total.saturating_add(count);
        self.first.extend(found);
    }

    /// Takes in how many matches there are beyond, in a trail up to this event.
    pub const fn count(&mut self, more: i64, head: i64) {
        self.total = self.total.saturating_add(more);
        self.until = head;
    }

    /// The same in a trail that begins after this event; nothing when it can't be told how many matches went.
    fn without(self: Arc<Self>, gone: i64) -> Arc<Self> {
        if gone == self.gone {
            return self;
        }
        let dropped = self.first.partition_point(|number| *number <= gone);
        let all_are = dropped == self.first.len();
        if gone < self.gone || gone > self.until || (all_are && !self.complete()) {
            return Self::nothing(gone);
        }
        let mut known = Arc::unwrap_or_clone(self);
        known.first.drain(..dropped);
        known.total = known.total.saturating_sub(i64::try_from(dropped).unwrap_or(i64::MAX));
        known.gone = gone;
        Arc::new(known)
    }

    fn first_of(&self, filter: &EventFilter) -> usize {
        match filter.cursor {
            Some(cursor) => self.first.partition_point(|number| *number <= cursor),
            None => usize::try_from(filter.offset).unwrap_or(usize::MAX),
        }
    }

    /// The numbers on a page, when all of them are known.
    pub fn page(&self, filter: &EventFilter) -> Option<&[i64]> {
        let all = self.first.len();
        let start = self.first_of(filter);
        let end = start.saturating_add(usize::try_from(filter.limit).unwrap_or(usize::MAX));
        (self.complete() || end <= all)
            .then(|| self.first.get(start.min(all)..end.min(all)))
            .flatten()
    }

    /// The last known number before a page, and how many matches there are between the two.
    pub fn nearest(&self, filter: &EventFilter) -> (i64, i64) {
        if let Some(cursor) = filter.cursor {
            return (cursor, 0);
        }
        let before = self.first_of(filter).min(self.first.len());
        let number = before.checked_sub(1).and_then(|last| self.first.get(last));
        let passed = i64::try_from(before).unwrap_or(i64::MAX);
        (
            number.copied().unwrap_or_default(),
            filter.offset.saturating_sub(passed),
        )
    }
}

/// A filter without its paging.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    exact: Vec<(FilterColumn, String)>,
    since: Option<UnixNanos>,
    until: Option<UnixNanos>,
}

impl Key {
    fn is_of(&self, filter: &EventFilter) -> bool {
        self.exact == filter.exact && self.since == filter.since && self.until == filter.until
    }
}

/// The filters that were asked for last, the latest at the end.
#[derive(Debug, Default)]
pub struct FilterCache(Mutex<Vec<(Key, Arc<Known>)>>);

impl FilterCache {
    fn lock(&self) -> MutexGuard<'_, Vec<(Key, Arc<Known>)>> {
        self.0.lock()
    }

    /// What is known of a filter, if it isn't ahead of this head, in a trail whose events up to `gone` were dropped.
    pub fn get(&self, filter: &EventFilter, head: i64, gone: i64) -> Arc<Known> {
        let mut kept = self.lock();
        let Some(place) = kept.iter().position(|(key, _)| key.is_of(filter)) else {
            return Known::nothing(gone);
        };
        let entry = kept.remove(place);
        let known = Arc::clone(&entry.1);
        kept.push(entry);
        drop(kept);
        if known.until <= head {
            known.without(gone)
        } else {
            Known::nothing(gone)
        }
    }

    /// Keeps what is known of a filter now.
    pub fn put(&self, filter: &EventFilter, known: Arc<Known>) {
        let bytes: usize = filter.exact.iter().map(|(_, value)| value.len()).sum();
        if bytes > LONGEST_VALUES {
            return;
        }
        let key = Key {
            exact: filter.exact.clone(),
            since: filter.since,
            until: filter.until,
        };
        let mut kept = self.lock();
        kept.retain(|(key, _)| !key.is_of(filter));
        if kept.len() >= FILTERS {
            kept.remove(0);
        }
        kept.push((key, known));
    }

    /// Forgets everything: the trail may be another one now.
    pub fn clear(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(value: &str) -> EventFilter {
        EventFilter {
            exact: vec![(FilterColumn::TaskId, value.to_owned())],
            limit: 2,
            ..EventFilter::default()
        }
    }

    fn known(total: i64, first: &[i64]) -> Known {
        Known {
            total,
            until: 100,
            first: first.to_vec(),
            gone: 0,
        }
    }

    #[test]
    fn matches_that_were_dropped_are_known_no_more() {
        let numbers = |known: &Known| (known.total, known.first.clone(), known.until);
        let after = |known: Known, gone| numbers(&Arc::new(known).without(gone));
        assert_eq!(after(known(9, &[3, 5, 8]), 4), (8, vec![5, 8], 100));
        assert_eq!(after(known(9, &[3, 5, 8]), 5), (7, vec![8], 100));
        assert_eq!(after(known(3, &[3, 5, 8]), 50), (0, vec![], 100));
        assert_eq!(
            after(known(9, &[3, 5, 8]), 8),
            (0, vec![], 8),
            "how many of the others went?"
        );
        assert_eq!(
            after(known(3, &[3, 5, 8]), 101),
            (0, vec![], 101),
            "and what came after them"
        );
        let later = Arc::new(known(9, &[3, 5, 8])).without(4);
        assert_eq!(numbers(&Arc::clone(&later).without(4)), (8, vec![5, 8], 100));
        assert_eq!(
            numbers(&later.without(2)),
            (0, vec![], 2),
            "an older reader counts for itself"
        );
    }

    #[test]
    fn a_page_is_known_when_all_its_numbers_are() {
        let (some, all) = (known(9, &[3, 5, 8]), known(3, &[3, 5, 8]));
        let at = |offset| EventFilter { offset, ..filter("t") };
        let after = |cursor| EventFilter {
            cursor: Some(cursor),
            ..filter("t")
        };
        assert_eq!(some.page(&at(1)), Some([5, 8].as_slice()));
        assert_eq!((some.page(&at(2)), some.nearest(&at(2))), (None, (5, 0)));
        assert_eq!((some.page(&at(7)), some.nearest(&at(7))), (None, (8, 4)));
        assert_eq!(all.page(&at(2)), Some([8].as_slice()));
        assert_eq!(all.page(&at(7)), Some([].as_slice()));
        assert_eq!(some.page(&after(3)), Some([5, 8].as_slice()));
        assert_eq!((some.page(&after(5)), some.nearest(&after(5))), (None, (5, 0)));
        assert_eq!(all.page(&after(5)), Some([8].as_slice()));
        assert_eq!(all.page(&after(500)), Some([].as_slice()));
        assert_eq!(known(0, &[]).page(&at(0)), Some([].as_slice()));
    }

    #[test]
    fn the_filters_asked_for_last_are_kept_and_no_more() {
        let matches = FilterCache::default();
        for number in 0..FILTERS {
            matches.put(&filter(&number.to_string()), Arc::new(known(1, &[1])));
        }
        assert_eq!(
            matches.get(&filter("0"), 100, 0).total,
            1,
            "used, so that 1 is now the oldest"
        );
        matches.put(&filter("new"), Arc::new(known(2, &[1, 2])));
        matches.put(&filter("new"), Arc::new(known(3, &[1, 2, 3])));
        assert_eq!(matches.lock().len(), FILTERS);
        assert_eq!(matches.get(&filter("1"), 100, 0).total, 0);
        assert_eq!(matches.get(&filter("new"), 100, 0).total, 3);
        assert_eq!(matches.get(&filter("new"), 99, 0).total, 0, "ahead of a shorter trail");
        matches.put(&filter(&"x".repeat(2000)), Arc::new(known(1, &[1])));
        assert_eq!(matches.get(&filter(&"x".repeat(2000)), 100, 0).total, 0);
        matches.clear();
        assert_eq!(matches.get(&filter("new"), 100, 0).total, 0);
    }
}
