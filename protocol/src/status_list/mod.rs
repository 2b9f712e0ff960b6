//! Status lists (draft-ietf-oauth-status-list), pure: by its place in a list a service that checks tokens offline hears
//! that a session has ended.
//!
//! Each session and each delegation has an index of its own, which all its tokens share. What holds:
//! * no two sessions whose tokens may still live have the same index;
//! * an index is drawn evenly from all that are free, and there are [`Bounds::at_least_free`] at least: it tells nothing of
//!   when a session was opened, nor of who else was;
//! * an index is free again [`FREE_AFTER`] after the last `exp` of any token that it was for: a service whose clock is
//!   behind by less never takes the bit of a new session for that of an old one.

mod bitmap;
mod pool;

use std::fmt;

use crate::time::{UnixMillis, UnixSeconds};
use crate::ttl::Ttl;

pub use bitmap::Bitmap;
pub use pool::IndexPool;

/// Entries of a list.
pub const ENTRIES: u32 = 1 << LIST_SHIFT;
/// Most lists.
pub const MOST_LISTS: u32 = 64;
/// How long after the last `exp` of its tokens an index is free again.
pub const FREE_AFTER: Ttl = Ttl::seconds(3600);

/// The number of a list is above these bits, the place in the list below.
const LIST_SHIFT: u32 = 20;

/// From when on the index of tokens of which the last expires in this second is free again.
pub fn free_from(last_exp: UnixSeconds) -> UnixMillis {
    (last_exp + FREE_AFTER).end()
}

/// A place in a status list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusIndex(u32);

impl StatusIndex {
    /// The place `index` of the list `list`; `None` when there is none.
    pub const fn new(list: u32, index: u32) -> Option<Self> {
        if list < MOST_LISTS && index < ENTRIES {
            Some(Self((list << LIST_SHIFT) | index))
        } else {
            None
        }
    }

    /// The one with this number, see [`StatusIndex::number`].
    pub fn from_number(number: i64) -> Option<Self> {
        let number = u32::try_from(number).ok()?;
        Self::new(number >> LIST_SHIFT, number & (ENTRIES - 1))
    }

    /// Both as one number, in which a store keeps it: list × 2^20 + index.
    pub fn number(self) -> i64 {
        i64::from(self.0)
    }

    /// Which list.
    pub const fn list(self) -> u32 {
        self.0 >> LIST_SHIFT
    }

    /// The place in it.
    pub const fn index(self) -> u32 {
        self.0 & (ENTRIES - 1)
    }
}

impl fmt::Display for StatusIndex {
    /// List and place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.list(), self.index())
    }
}

/// How many indexes there are. Tests make the lists small; nothing that ships does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Entries of a list, at most [`ENTRIES`].
    pub entries: u32,
    /// While fewer are free in the lists that are open, the next one is opened; when there may be no more, nothing is drawn.
    pub at_least_free: u32,
    /// Most lists, at most [`MOST_LISTS`].
    pub lists: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries: ENTRIES,
            at_least_free: 65_536,
            lists: MOST_LISTS,
        }
    }
}

/// That the bit of an index is set from a moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusBit {
    /// Which.
    pub index: StatusIndex,
    /// From when on, on the clock that tokens are judged by. Of an end without an overlap it is 1970: such a bit is set
    /// whatever the clock says.
    pub from: UnixMillis,
}

/// The bits of a list as they are at a moment.
pub fn bits_at(list: u32, bits: &[StatusBit], moment: UnixMillis) -> Bitmap {
    let mut found = Bitmap::new(ENTRIES);
    let set = bits.iter().filter(|bit| bit.index.list() == list && bit.from <= moment);
    for bit in set {
        found.set(bit.index.index());
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_names_list_and_place() {
        for (list, index, number) in [
            (0, 0, 0),
            (0, 1_048_575, 1_048_575),
            (1, 0, 1_048_576),
            (63, 1_048_575, 67_108_863),
        ] {
            let place = StatusIndex::new(list, index).unwrap();
            assert_eq!((place.number(), place.list(), place.index()), (number, list, index));
            assert_eq!(StatusIndex::from_number(number), Some(place));
        }
        assert_eq!(StatusIndex::new(3, 7).unwrap().to_string(), "3/7");
    }

    #[test]
    fn there_is_no_place_beyond_the_lists() {
        for (list, index) in [(64, 0), (0, 1_048_576), (u32::MAX, u32::MAX)] {
            assert_eq!(StatusIndex::new(list, index), None);
        }
        for number in [-1, 67_108_864, i64::from(u32::MAX), i64::MAX, i64::MIN] {
            assert_eq!(StatusIndex::from_number(number), None, "{number}");
        }
    }

    #[test]
    fn an_index_is_free_an_hour_after_its_last_second() {
        assert_eq!(free_from(UnixSeconds::new(7)), UnixMillis::new(3_608_000));
        assert_eq!(free_from(UnixSeconds::new(i64::MAX)), UnixMillis::MAX);
    }

    #[test]
    fn the_bits_of_a_list_are_those_whose_moment_has_come() {
        let bit = |list, index, from| StatusBit {
            index: StatusIndex::new(list, index).unwrap(),
            from: UnixMillis::new(from),
        };
        let bits = [bit(0, 1, 0), bit(0, 2, 10), bit(0, 3, 11), bit(1, 4, 0)];
        let set = |list| {
            let found = bits_at(list, &bits, UnixMillis::new(10));
            (0..10).filter(|index| found.get(*index)).collect::<Vec<_>>()
        };
        assert_eq!((set(0), set(1), set(2)), (vec![1, 2], vec![4], vec![]));
        assert_eq!(
            bits_at(0, &bits, UnixMillis::new(0)).ones(),
            1,
            "whatever the clock says"
        );
    }

    proptest! {
        #[test]
        fn every_number_is_one_place_or_none(number in any::<i64>()) {
            if let Some(place) = StatusIndex::from_number(number) {
                prop_assert_eq!(place.number(), number);
                prop_assert_eq!(StatusIndex::new(place.list(), place.index()), Some(place));
            }
        }
    }
}
