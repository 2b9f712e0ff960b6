//! Which indexes are held, and the draw of one that isn't.

use std::collections::HashMap;

use super::{Bitmap, Bounds, ENTRIES, MOST_LISTS, StatusIndex};
use crate::clock::{Entropy, EntropyError};

/// Words of a block, whose free places are counted.
const BLOCK: u32 = 64;

/// The open lists, in 128 KiB each, with the places of each that are held. A draw looks at some hundred counts and words
/// at most, however full the lists are.
#[derive(Debug)]
pub struct IndexPool {
    bounds: Bounds,
    lists: Vec<List>,
    free: u32,
    /// Indexes that are held more than once, and how often beyond that: a store whose clock was set back holds those
    /// again that were free already, also where another session has drawn them since.
    again: HashMap<StatusIndex, u32>,
}

/// An open list.
#[derive(Debug)]
struct List {
    held: Bitmap,
    /// Free places of each block.
    blocks: Vec<u32>,
    free: u32,
}

impl List {
    fn new(entries: u32) -> Self {
        let held = Bitmap::new(entries);
        let blocks = 0..held.words().div_ceil(BLOCK);
        let blocks = blocks.map(|block| held.zeros_in(words_of(block))).collect();
        Self {
            held,
            blocks,
            free: entries,
        }
    }

    /// Holds a place, or gives it back; whether that changed it.
    fn change(&mut self, index: u32, to_held: bool) -> bool {
        let changed = if to_held {
            self.held.set(index)
        } else {
            self.held.clear(index)
        };
        let block = usize::try_from(index / (u64::BITS * BLOCK)).ok();
        let block = block.and_then(|block| self.blocks.get_mut(block));
        if let (true, Some(block)) = (changed, block) {
            for count in [block, &mut self.free] {
                *count = if to_held {
                    count.saturating_sub(1)
                } else {
                    count.saturating_add(1)
                };
            }
        }
        changed
    }

    /// The `rank`-th place, from 0, that is free.
    fn free_at(&self, mut rank: u32) -> Option<u32> {
        for (block, free) in (0..).zip(&self.blocks) {
            match rank.checked_sub(*free) {
                Some(rest) => rank = rest,
                None => return self.held.zero_at(words_of(block), rank),
            }
        }
        None
    }
}

/// The words of a block.
fn words_of(block: u32) -> std::ops::Range<u32> {
    block * BLOCK..(block + 1) * BLOCK
}

impl IndexPool {
    /// With the first list open, and nothing held.
    pub fn new(bounds: Bounds) -> Self {
        let bounds = Bounds {
            entries: bounds.entries.min(ENTRIES),
            lists: bounds.lists.min(MOST_LISTS),
            ..bounds
        };
        let mut pool = Self {
            bounds,
            lists: Vec::new(),
            free: 0,
            again: HashMap::new(),
        };
        pool.open_list();
        pool
    }

    fn open_list(&mut self) {
        self.lists.push(List::new(self.bounds.entries));
        self.free = self.free.saturating_add(self.bounds.entries);
    }

    fn list(&mut self, index: StatusIndex) -> Option<&mut List> {
        self.lists.get_mut(usize::try_from(index.list()).ok()?)
    }

    /// Notes that an index is held, as a store says; its list is open then, and those before it.
    pub fn hold(&mut self, index: StatusIndex) {
        while self.lists() <= index.list() {
            self.open_list();
        }
        if self.list(index).is_some_and(|list| list.change(index.index(), true)) {
            self.free = self.free.saturating_sub(1);
        } else {
            let times = self.again.entry(index).or_default();
            *times = times.saturating_add(1);
        }
    }

    /// Gives an index back; it is free when nothing else holds it.
    pub fn free(&mut self, index: StatusIndex) {
        if let Some(times) = self.again.get_mut(&index) {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.again.remove(&index);
            }
        } else if self.list(index).is_some_and(|list| list.change(index.index(), false)) {
            self.free = self.free.saturating_add(1);
        }
    }

    /// Whether nothing is drawn: fewer than enough are free, and no list may be opened for that.
    pub fn is_full(&self) -> bool {
        self.free < self.bounds.at_least_free.max(1) && self.lists() >= self.bounds.lists
    }

    /// Opens lists until enough are free, if there may be so many.
    pub fn open_enough(&mut self) {
        while self.free < self.bounds.at_least_free.max(1) && self.lists() < self.bounds.lists {
            self.open_list();
        }
    }

    /// Opens lists until there are so many, if there may be.
    pub fn open_lists(&mut self, lists: u32) {
        while self.lists() < lists.min(self.bounds.lists) {
            self.open_list();
        }
    }

    /// Draws an index evenly from all that are free, and holds it; `None` when the lists are full.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn draw(&mut self, entropy: &dyn Entropy) -> Result<Option<StatusIndex>, EntropyError> {
        if self.is_full() {
            return Ok(None);
        }
        self.open_enough();
        let mut random = [0_u8; 16];
        entropy.fill(&mut random)?;
        // 128 bits for at most 26: the remainder prefers no place by more than 2^-102 (FIPS 186-5, A.2.1, asks for 2^-64).
        let rank = u128::from_be_bytes(random).checked_rem(self.free.into());
        let drawn = rank
            .and_then(|rank| u32::try_from(rank).ok())
            .and_then(|rank| self.free_at(rank));
        if let Some(index) = drawn {
            self.hold(index);
        }
        Ok(drawn)
    }

    /// The `rank`-th index, from 0, that is free.
    fn free_at(&self, mut rank: u32) -> Option<StatusIndex> {
        for (number, list) in (0..).zip(&self.lists) {
            match rank.checked_sub(list.free) {
                Some(rest) => rank = rest,
                None => return StatusIndex::new(number, list.free_at(rank)?),
            }
        }
        None
    }

    /// How many are free in the open lists.
    pub const fn free_count(&self) -> u32 {
        self.free
    }

    /// How many lists are open.
    pub fn lists(&self) -> u32 {
        u32::try_from(self.lists.len()).unwrap_or(MOST_LISTS)
    }
}

#[cfg(test)]
mod tests;
